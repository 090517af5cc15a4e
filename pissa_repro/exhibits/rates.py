"""The final loss of every method by its learning rate, and the rate that is chosen by it; needs several rates."""

from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime import paths

if TYPE_CHECKING:
    from pissa_repro.report.tables.table import Table

PAPER, KIND, TARGET = None, "table", "all"
NEEDS = "several learning rates (config/baselines_search.yaml)"


def needs(sweep: Sweep) -> list[Path]:
    """Nothing where one rate is swept."""
    several = len(sweep.config["sweep"]["learning_rates"]) > 1
    return [paths.cell(name).train for name in sweep.cells] if several else []


def make(sweep: Sweep, results: Path) -> "Table":
    from pissa_repro.report.tables.rates import rates

    return rates(sweep, results, "Final loss by learning rate")
