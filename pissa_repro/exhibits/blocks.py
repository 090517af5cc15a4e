"""Average error reduction, and the error of plain quantization, over the block size."""

from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.plan import studies
from pissa_repro.plan.sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER, KIND, TARGET = None, "figure", "studies"
NEEDS = "studies.models"


def needs(sweep: Sweep) -> list[Path]:
    return studies.tables(sweep, "errors_blocks")


def make(sweep: Sweep, results: Path) -> "Figure":
    from pissa_repro.report.figures.canvas import stacked
    from pissa_repro.report.figures.reductions import over_blocks

    return stacked(sweep, results, over_blocks)
