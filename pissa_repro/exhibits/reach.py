"""After how many steps every method has LoRA's final loss."""

from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro import methods
from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime import paths

if TYPE_CHECKING:
    from pissa_repro.report.tables.table import Table

PAPER, KIND, TARGET = None, "table", "all"
NEEDS = "LoRA on the same base as another method"


def needs(sweep: Sweep) -> list[Path]:
    """Nothing where no method is one that others are compared with."""
    swept = {sweep.definition(cell["method"])["init"] for cell in sweep.config["sweep"]["cells"]}
    return [paths.cell(name).steps for name in sweep.cells] if swept & set(methods.references()) else []


def make(sweep: Sweep, results: Path) -> "Table":
    from pissa_repro.report.tables.reach import reach

    return reach(sweep, results, "Steps to LoRA's final loss")
