"""A toy that learns odd digits, then even ones: paths on the landscape of the loss, and losses by method."""

from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.plan import toy
from pissa_repro.plan.sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER, KIND, TARGET = "Figure 2a", "figure", "studies"
NEEDS = "studies.toy, which is on by default"


def needs(sweep: Sweep) -> list[Path]:
    return toy.records(sweep)


def make(sweep: Sweep, results: Path) -> "Figure":
    from pissa_repro.report.figures.toy import landscape_and_losses

    return landscape_and_losses(sweep, results)
