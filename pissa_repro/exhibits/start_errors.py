"""Nuclear, Frobenius and weighted errors of starts, and their KL divergence, by method and rank; needs studies.data."""

from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.plan import studies
from pissa_repro.plan.sweep import Sweep

if TYPE_CHECKING:
    from pissa_repro.report.tables.table import Table

PAPER, KIND, TARGET = None, "table", "studies"
NEEDS = "studies.data, and quantized cells (config/errors.yaml)"


def needs(sweep: Sweep) -> list[Path]:
    return studies.weighed_records(sweep, sweep.config["studies"]["trained"])


def make(sweep: Sweep, results: Path) -> "Table":
    from pissa_repro.report.tables.errors import start_errors

    heading = "Errors of starts: sums over modules, weighted by what they see, and KL(base model || start)"
    return start_errors(sweep, results, heading)
