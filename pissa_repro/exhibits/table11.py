"""Gradients of A and B at the start over seeds, as directions in a plane, and how far the first updates reach."""

from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.plan import gradients
from pissa_repro.plan.sweep import Sweep

if TYPE_CHECKING:
    from pissa_repro.report.tables.table import Table

PAPER, KIND, TARGET = "Table 11", "table", "studies"
NEEDS = "studies.gradients, of a model that the sweep and the studies have (config/config.yaml)"


def needs(sweep: Sweep) -> list[Path]:
    return gradients.records(sweep)


def make(sweep: Sweep, results: Path) -> "Table":
    from pissa_repro.report.tables.gradients import directions

    return directions(sweep, results, "Gradients at the start, and the first updates (paper, Table 11)")
