"""One weight and its residual: singular values, those of their quantization errors, and their values."""

from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.plan import studies
from pissa_repro.plan.sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER, KIND, TARGET = "Figure 3", "figure", "studies"
NEEDS = "studies.models"


def needs(sweep: Sweep) -> list[Path]:
    return studies.records(sweep, "spectra")


def make(sweep: Sweep, results: Path) -> "Figure":
    from pissa_repro.report.figures.canvas import stacked
    from pissa_repro.report.figures.spectra import weight_and_residual

    return stacked(sweep, results, weight_and_residual)
