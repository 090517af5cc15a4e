"""QERA (arXiv 2410.06040): A and B are the rank r of the quantization error that changes the layer's outputs least.

With R the root of E[x x^T]: A = V^T R^-1, B = U S of the r largest triples of (W - base) R (theorem 1, QERA-exact).
`exact: false` takes its diagonal, sqrt(E[x_i^2]), for R (theorem 2, QERA-approx).

Deviations: where R has no inverse, the paper perturbs its diagonal; here nothing is inverted (linalg/weighted.py).
"""

from pissa_repro.methods import Matrix, Setting, Start

DISPLAY = QUANTIZED_DISPLAY = "QERA"
RANDOM = False
LOOK = 22
OPTIONS = {"svd": "fast", "exact": True}
STATISTICS = {"covariance": {"rows": 128}}


def refuse(quant: str) -> str | None:
    """Without quantization there is no error to reconstruct."""
    return "QERA approximates the error of quantization; without quantization it is LoRA" if quant == "none" else None


def start(weight: Matrix, setting: Setting) -> Start:
    """A <- V^T R^-1, B <- U S / s for the r largest triples U S V^T of (W - quantize(W)) R."""
    from pissa_repro.linalg import weighted

    covariance = setting.statistics["covariance"]
    weights = weighted.root(covariance) if setting.options["exact"] else covariance.diagonal().double().sqrt()
    error = setting.remainder()
    triples = weighted.leading(setting.spectrum, error, weights, setting.rank, setting.options["svd"])
    return Start(A=triples.Vh, B=triples.U * (triples.S / setting.scaling), excess=triples.excess)
