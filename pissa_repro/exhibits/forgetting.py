"""What is forgotten over the size of the update; needs perplexity, and the base or a row that has not moved."""

from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.exhibits import baselines
from pissa_repro.plan.sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER, KIND, TARGET = None, "figure", "all"


def needs(sweep: Sweep) -> list[Path]:
    return baselines.needs(sweep)


def make(sweep: Sweep, results: Path) -> "Figure":
    from pissa_repro.report.figures.tradeoffs import forgetting

    return forgetting(sweep, results)
