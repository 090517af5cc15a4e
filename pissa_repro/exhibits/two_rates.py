"""Two columns, one rate for all methods and each at its best, and how the gaps change."""

from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime import paths

if TYPE_CHECKING:
    from pissa_repro.report.tables.table import Table

PAPER, KIND, TARGET = None, "table", "all"
NEEDS = "several learning rates (config/rates.yaml)"


def needs(sweep: Sweep) -> list[Path]:
    """Nothing where one rate is swept."""
    if len(sweep.config["sweep"]["learning_rates"]) < 2:
        return []
    tasks = sweep.config["sweep"]["tasks"]
    return [paths.scores(), *(paths.cell(name).samples(task) for name in sweep.cells for task in tasks)]


def make(sweep: Sweep, results: Path) -> "Table":
    from pissa_repro.report.tables.two_rates import two_rates

    return two_rates(sweep, results)
