"""Methods side by side: difference to LoRA with its interval, score and time of a step, by base."""

from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.exhibits import baselines
from pissa_repro.plan.sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER, KIND, TARGET = None, "figure", "all"
NEEDS = "a swept task of the file perplexity beside another task (config/baselines.yaml)"


def parts(sweep: Sweep) -> dict[str, Sweep]:
    return {"extra/baselines": sweep}


def needs(sweep: Sweep) -> list[Path]:
    return baselines.needs(sweep)


def make(sweep: Sweep, results: Path) -> "Figure":
    from pissa_repro.report.figures.methods import side_by_side

    return side_by_side(sweep, results)
