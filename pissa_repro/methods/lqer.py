"""LQER with activations (L2QER, arXiv 2402.02446): the quantization error's rank r, its inputs scaled by E|x_i|.

A = V^T D^-1, B = U S of the r largest triples of (W - base) D, D the diagonal of the magnitudes. The paper divides them
by the root of their least times their largest, which D and D^-1 cancel.

Deviations: the paper takes the largest of the samples' mean magnitudes, and the mean over all tokens is taken here.
"""

from pissa_repro.methods import Matrix, Setting, Start

DISPLAY = QUANTIZED_DISPLAY = "LQER"
RANDOM = False
LOOK = 23
OPTIONS = {"svd": "fast"}
STATISTICS = {"magnitude": {"rows": 32}}  # from memory; the released config of LLaMA-7B has 64


def refuse(quant: str) -> str | None:
    """Without quantization there is no error to reconstruct."""
    return "LQER approximates the error of quantization; without quantization it is LoRA" if quant == "none" else None


def start(weight: Matrix, setting: Setting) -> Start:
    """A <- V^T D^-1, B <- U S / s for the r largest triples U S V^T of (W - quantize(W)) D."""
    from pissa_repro.linalg import weighted

    error, magnitude = setting.remainder(), setting.statistics["magnitude"].double()
    triples = weighted.leading(setting.spectrum, error, magnitude, setting.rank, setting.options["svd"])
    return Start(A=triples.Vh, B=triples.U * (triples.S / setting.scaling), excess=triples.excess)
