"""Solvers by rank: time, error, excess over the best rank r, and the final loss of the sweep's trainings."""

from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.plan import studies
from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime import paths

if TYPE_CHECKING:
    from pissa_repro.report.tables.table import Table

PAPER, KIND, TARGET = "Table 6", "table", "studies"
NEEDS = "studies.models"


def needs(sweep: Sweep) -> list[Path]:
    losses = [paths.cell(cell.name).train for cell in studies.solved(sweep)]
    return studies.tables(sweep, "solvers") + losses


def make(sweep: Sweep, results: Path) -> "Table":
    from pissa_repro.report.tables.solvers import solvers

    return solvers(sweep, results, "Solvers: time, error and final loss (paper, Table 6)")
