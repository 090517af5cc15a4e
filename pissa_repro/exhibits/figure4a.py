"""Training loss over the steps, with an inset of the first ones."""

from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime import paths

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER, KIND, TARGET = "Figure 4a", "figure", "all"


def needs(sweep: Sweep) -> list[Path]:
    return [paths.cell(name).steps for name in sweep.cells]


def make(sweep: Sweep, results: Path) -> "Figure":
    from pissa_repro.report.figures.steps import loss

    return loss(sweep, results)
