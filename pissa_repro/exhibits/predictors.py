"""Which error of a start goes with the loss after training; needs studies.data."""

from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.plan import studies
from pissa_repro.plan.sweep import Sweep

if TYPE_CHECKING:
    from pissa_repro.report.tables.table import Table

PAPER, KIND, TARGET = None, "table", "all"
NEEDS = "studies.data, and quantized cells (config/errors.yaml)"


def needs(sweep: Sweep) -> list[Path]:
    return studies.weighed_records(sweep, trained=True)


def make(sweep: Sweep, results: Path) -> "Table":
    from pissa_repro.report.tables.errors import predictors

    return predictors(sweep, results, "Rank correlation of errors of starts with the final loss, 95 % intervals")
