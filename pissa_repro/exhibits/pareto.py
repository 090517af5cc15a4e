"""Score and final loss against trained parameters, time and memory."""

from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.exhibits import wins
from pissa_repro.plan.sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER, KIND, TARGET = None, "figure", "all"
NEEDS = "four methods on one base (config/baselines.yaml)"


def needs(sweep: Sweep) -> list[Path]:
    return wins.needs(sweep)


def make(sweep: Sweep, results: Path) -> "Figure":
    from pissa_repro.report.figures.tradeoffs import pareto

    return pareto(sweep, results)
