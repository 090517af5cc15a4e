"""CLoQ (arXiv 2501.18475): A and B minimize |(base + sBA - W) X| over the calibration data X, in closed form.

With H = X X^T and its root R, damped by 0.01 of H's mean eigenvalue: the r largest triples U S V^T of (W - base) R make
A = S V^T R^-1 and B = U. It is the product of QERA-exact, but for the damping, with the singular values in A. Seen of
the paper: its abstract; which factor holds S, and the damping, are from memory.

Deviations: the paper's base is quantized by MagR and GPTQ on the same data, ours by the cell's quantization, so that
all methods of a table share one base.
"""

from pissa_repro.methods import Matrix, Setting, Start

DISPLAY = QUANTIZED_DISPLAY = "CLoQ"
RANDOM = False
LOOK = 24
OPTIONS = {"svd": "fast", "damping": 0.01}
STATISTICS = {"covariance": {"rows": 128}}


def refuse(quant: str) -> str | None:
    """Without quantization there is no error to approximate."""
    return "CLoQ approximates the error of quantization; without quantization it is LoRA" if quant == "none" else None


def start(weight: Matrix, setting: Setting) -> Start:
    """A <- S V^T R^-1 / s, B <- U for the r largest triples U S V^T of (W - quantize(W)) R."""
    from pissa_repro.linalg import weighted

    weights = weighted.root(weighted.damped(setting.statistics["covariance"], setting.options["damping"]))
    error = setting.remainder()
    triples = weighted.leading(setting.spectrum, error, weights, setting.rank, setting.options["svd"])
    return Start(A=triples.Vh * (triples.S / setting.scaling)[:, None], B=triples.U.contiguous(), excess=triples.excess)
