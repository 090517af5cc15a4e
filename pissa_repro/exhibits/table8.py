"""Error reduction by projection type: LoftQ and QPiSSA, every rank and number of alternations."""

from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.plan import studies
from pissa_repro.plan.sweep import Sweep

if TYPE_CHECKING:
    from pissa_repro.report.tables.table import Table

PAPER, KIND, TARGET = "Table 8", "table", "studies"
NEEDS = "studies.models"


def needs(sweep: Sweep) -> list[Path]:
    return studies.tables(sweep, "errors_ranks")


def make(sweep: Sweep, results: Path) -> "Table":
    from pissa_repro.report.tables.reductions import by_projection

    alternations = sweep.config["studies"]["alternations"]
    return by_projection(sweep, results, alternations, "Error reduction in percent by projection type (paper, Table 8)")
