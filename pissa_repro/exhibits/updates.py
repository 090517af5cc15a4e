"""Size of the update and its ranks by projection type, of every trained cell."""

from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.plan import studies
from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime import paths

if TYPE_CHECKING:
    from pissa_repro.report.tables.table import Table

PAPER, KIND, TARGET = None, "table", "studies"
NEEDS = "studies.trained"


def needs(sweep: Sweep) -> list[Path]:
    return [paths.cell(cell.name).updates for cell in studies.moved(sweep)]


def make(sweep: Sweep, results: Path) -> "Table":
    from pissa_repro.report.tables.updates import updates

    return updates(sweep, results, "How far the training has moved the weights")
