"""Error of trained factors by the base they are evaluated on; needs studies.trained and a quantized cell."""

from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.plan import studies
from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime import paths

if TYPE_CHECKING:
    from pissa_repro.report.tables.table import Table

PAPER, KIND, TARGET = None, "table", "studies"
NEEDS = "studies.trained, and a quantized cell of a studied model"


def needs(sweep: Sweep) -> list[Path]:
    return [paths.cell(cell.name).trained_error for cell in studies.quantized(sweep)]


def make(sweep: Sweep, results: Path) -> "Table":
    from pissa_repro.report.tables.trained import trained_as

    heading = "Nuclear norm of W - (base + sBA) after training, by the base that it is evaluated on"
    return trained_as(sweep, results, heading)
