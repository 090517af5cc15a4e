"""EVA (arXiv 2410.07170): A is the r directions of most variance in the layer's inputs, B is zero, the base is W.

A has the right singular vectors of the inputs X, which are the eigenvectors of E[x x^T] (theorems 3.1 and 3.2). Ranks
go to the directions that explain the largest shares of their module's variance, up to rho * r for a module; rho = 1
leaves all equal.

Deviations: of PEFT's `eva`: it subtracts the mean of the inputs first, finds the directions batch by batch, and takes
the adapter off a module that gets no rank; here each keeps a rank of 1 at least.
"""

from collections.abc import Mapping
from typing import Any

from pissa_repro.methods import Matrix, Setting, Start

DISPLAY, QUANTIZED_DISPLAY = "EVA", "QEVA"
RANDOM = False
LOOK = 21
OPTIONS = {"rho": 2.0}
STATISTICS = {"covariance": {"rows": 256}}


def refuse_options(options: Mapping[str, Any]) -> str | None:
    """With less, the modules could not hold all ranks."""
    return None if options["rho"] >= 1 else f"option 'rho' is {options['rho']}; it must be a number from 1"


def start(weight: Matrix, setting: Setting) -> Start:
    """A <- the first r eigenvectors of the covariance, as rows."""
    return Start(A=_directions(setting, setting.rank)[1], B=weight.new_zeros(len(weight), setting.rank))


def summary(weight: Matrix, setting: Setting) -> Matrix:
    """The shares of the variance that the first directions explain, falling, as many as the module may have ranks."""
    return _directions(setting, min(round(setting.options["rho"] * setting.rank), *weight.shape))[0]


def _directions(setting: Setting, count: int) -> tuple[Matrix, Matrix]:
    """The shares (count,) of the first directions (count, in). Raises UserError for a module without inputs."""
    from pissa_repro.linalg.spectrum import leading
    from pissa_repro.runtime.errors import UserError

    covariance = setting.statistics["covariance"]
    if not (total := covariance.diagonal().sum()) > 0:
        raise UserError(f"{setting.spectrum.name}: its inputs are zero in all rows, so that EVA has no direction.")
    triples = leading(covariance, count, setting.spectrum.generator())
    return triples.S / total, triples.Vh.contiguous()


def ranks(rank: int, summaries: Mapping[str, Matrix], options: Mapping[str, Any]) -> dict[str, int]:
    """One for each module, and the rest of rank * modules to the largest of the shares that are left."""
    found = dict.fromkeys(summaries, 1)
    left = [(-share, name) for name, shares in summaries.items() for share in shares[1:].tolist()]
    for _, name in sorted(left)[: (rank - 1) * len(summaries)]:
        found[name] += 1
    return found
