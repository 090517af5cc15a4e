"""Every method against every other one on its base, as a matrix: what is better than what, and what Holm leaves."""

from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.exhibits import wins
from pissa_repro.plan.sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER, KIND, TARGET = None, "figure", "all"
NEEDS = "four methods on one base (config/baselines.yaml)"


def parts(sweep: Sweep) -> dict[str, Sweep]:
    return {"extra/wins": sweep}


def needs(sweep: Sweep) -> list[Path]:
    return wins.needs(sweep)


def make(sweep: Sweep, results: Path) -> "Figure":
    from pissa_repro.report.figures.wins import matrix

    return matrix(sweep, results)
