"""Error reduction by projection type, with the most alternations: a part of Table 8."""

from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.plan import studies
from pissa_repro.plan.sweep import Sweep

if TYPE_CHECKING:
    from pissa_repro.report.tables.table import Table

PAPER, KIND, TARGET = "Table 4", "table", "studies"
NEEDS = "studies.models"


def needs(sweep: Sweep) -> list[Path]:
    return studies.tables(sweep, "errors_ranks")


def make(sweep: Sweep, results: Path) -> "Table":
    from pissa_repro.report.tables.reductions import by_projection

    most = max(sweep.config["studies"]["alternations"])
    heading = f"Error reduction in percent by projection type, {most} alternations (paper, Table 4)"
    return by_projection(sweep, results, [most], heading)
