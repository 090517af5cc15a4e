"""The first updates: loss, and how far A and B have come of their way to the 50th."""

from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.plan import gradients
from pissa_repro.plan.sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER, KIND, TARGET = "Figure 18", "figure", "studies"
NEEDS = "studies.gradients, of a model that the sweep and the studies have (config/config.yaml)"


def needs(sweep: Sweep) -> list[Path]:
    return gradients.records(sweep)


def make(sweep: Sweep, results: Path) -> "Figure":
    from pissa_repro.report.figures.gradients import first_updates

    return first_updates(sweep, results)
