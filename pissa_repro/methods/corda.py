"""CorDA (arXiv 2406.05223): A and B are the r largest (or smallest) triples of W C, with C = E[x x^T], behind C^-1.

W C = U S V^T, A = sqrt(S) V^T C^-1, B = U sqrt(S), as in PEFT, which is equal to rounding for the same C; the paper's
equations were not seen. Mode `ipm` (instruction-previewed) takes the largest over rows of the task; `kpm`
(knowledge-preserved) the smallest, with C over rows of the knowledge to keep. C is damped by 0.01 of its mean
eigenvalue, as in PEFT.

Deviations: PEFT divides each sample's inputs by their largest, and so weighs samples unequally; here all tokens weigh
the same.
"""

from pissa_repro.methods import Matrix, Setting, Start

DISPLAY, QUANTIZED_DISPLAY = "CorDA", "QCorDA"
RANDOM = False
TAKES = "r triples of W C, C the covariance of its inputs"
LOOK = 18
OPTIONS = {"svd": "fast", "mode": "ipm"}
CHOICES = {"mode": ("ipm", "kpm")}
STATISTICS = {"covariance": {"rows": 256}}  # as in the released scripts
_DAMPING = 0.01  # of the mean eigenvalue


def start(weight: Matrix, setting: Setting) -> Start:
    """A, B <- split of the triples of W C behind C^-1; the base is W - sBA."""
    from pissa_repro.linalg import spectrum, weighted

    rank, last = setting.rank, min(weight.shape)
    covariance = weighted.damped(setting.statistics["covariance"], _DAMPING)
    if setting.options["mode"] == "ipm":
        triples = weighted.leading(setting.spectrum, weight, covariance, rank, setting.options["svd"])
    else:  # float64 throughout: the smallest values are far below the largest
        triples = weighted.behind(spectrum.exact(weight.double() @ covariance, last - rank, last), weight)
    return Start(*spectrum.split(triples, setting.scaling), offset="start")
