"""What is forgotten over the size of the update."""

from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.exhibits import baselines
from pissa_repro.plan.sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER, KIND, TARGET = None, "figure", "all"
NEEDS = "a swept task of the file perplexity, and sweep.bases or a row that has not moved (config/baselines.yaml)"


def needs(sweep: Sweep) -> list[Path]:
    return baselines.needs(sweep)


def make(sweep: Sweep, results: Path) -> "Figure":
    from pissa_repro.report.figures.tradeoffs import forgetting

    return forgetting(sweep, results)
