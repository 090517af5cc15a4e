"""Error reduction over rank, of the first projection type."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.plan import studies
from pissa_repro.plan.sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER, KIND, TARGET = "Figure 7a", "figure", "studies"
NEEDS = "studies.models"


def needs(sweep: Sweep) -> list[Path]:
    return studies.tables(sweep, "errors_ranks")


def make(sweep: Sweep, results: Path) -> "Figure":
    from pissa_repro.report.figures.canvas import stacked
    from pissa_repro.report.figures.reductions import over_ranks

    return stacked(sweep, results, partial(over_ranks, first=True))
