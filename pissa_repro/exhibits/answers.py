"""What is learned and what is form: accuracy by the marker and by the last number, and every gap split into both."""

from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro import tasks
from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime import paths

if TYPE_CHECKING:
    from pissa_repro.report.tables.table import Table

PAPER, KIND, TARGET = None, "table", "all"
NEEDS = "a swept task of the file gsm8k"


def needs(sweep: Sweep) -> list[Path]:
    """Nothing where no swept task reads answers again."""
    swept = sweep.config["sweep"]["tasks"]
    read = [name for name in swept if tasks.rereads(sweep.config["tasks"][name]["task"])]
    homes = [paths.cell(name) for name in (*sweep.cells, *sweep.others)]
    return [paths.scores(), *(home.samples(task) for home in homes for task in read)] if read else []


def make(sweep: Sweep, results: Path) -> "Table":
    from pissa_repro.report.tables.answers import answers

    return answers(sweep, results, "What is learned, and what is form")
