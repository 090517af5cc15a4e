"""The values of all weights and of all residuals."""

from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.plan import studies
from pissa_repro.plan.sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER, KIND, TARGET = "Figure 9", "figure", "studies"
NEEDS = "studies.models"


def needs(sweep: Sweep) -> list[Path]:
    return studies.records(sweep, "spectra")


def make(sweep: Sweep, results: Path) -> "Figure":
    from pissa_repro.report.figures.canvas import stacked
    from pissa_repro.report.figures.spectra import all_values

    return stacked(sweep, results, all_values)
