"""The sweep's scores, a table for each lm-eval task file: every setting over its seeds, beside LoRA and the paper."""

from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.plan import elsewhere
from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime import paths

if TYPE_CHECKING:
    from pissa_repro.report.tables.table import Table

PAPER, KIND, TARGET = None, "table", "all"


def parts(sweep: Sweep) -> dict[str, Sweep]:
    return {f"{file}_table": part for file, part in sweep.by_task_file().items()}


def needs(sweep: Sweep) -> list[Path]:
    cells = [paths.cell(name) for name in (*sweep.cells, *sweep.others)]
    tasks = sweep.config["sweep"]["tasks"]
    own = [*(cell.samples(task) for cell in cells for task in tasks), *(cell.train for cell in cells)]
    return [paths.scores(), *own, *elsewhere.files(sweep.config)]


def make(sweep: Sweep, results: Path) -> "Table":
    from pissa_repro.report.tables.sweep import table

    return table(sweep, results)
