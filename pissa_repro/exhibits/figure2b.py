"""Average error reduction at the ranks and alternations of the paper's bars."""

from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.plan import studies
from pissa_repro.plan.sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER, KIND, TARGET = "Figure 2b", "figure", "studies"
NEEDS = "studies.models"


def needs(sweep: Sweep) -> list[Path]:
    return studies.tables(sweep, "errors_ranks")


def make(sweep: Sweep, results: Path) -> "Figure":
    from pissa_repro.report.figures.canvas import stacked
    from pissa_repro.report.figures.reductions import bars_at_a_rank

    return stacked(sweep, results, bars_at_a_rank)
