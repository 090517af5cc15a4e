"""Final loss and score over the learning rate, with the chosen rates and what diverged."""

from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.exhibits import two_rates
from pissa_repro.plan.sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER, KIND, TARGET = None, "figure", "all"
NEEDS = "several learning rates (config/rates.yaml)"


def needs(sweep: Sweep) -> list[Path]:
    """Nothing where one rate is swept."""
    return two_rates.needs(sweep)


def make(sweep: Sweep, results: Path) -> "Figure":
    from pissa_repro.report.figures.rates import rate_curves

    return rate_curves(sweep, results)
