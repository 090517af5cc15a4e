"""Mean score of each method on each task in its unit, with the spread of seeds and of items."""

from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime import paths

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER, KIND, TARGET = None, "figure", "all"


def needs(sweep: Sweep) -> list[Path]:
    return [paths.scores()]


def make(sweep: Sweep, results: Path) -> "Figure":
    from pissa_repro.report.figures.scores import accuracy

    return accuracy(sweep, results)
