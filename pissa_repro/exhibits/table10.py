"""The settings that the paper prints for GLUE, as data: nothing of ours is in it."""

from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.plan.sweep import Sweep

if TYPE_CHECKING:
    from pissa_repro.report.tables.table import Table

PAPER, KIND, TARGET = "Table 10", "table", "paper"
PUBLISHED_ALONE = True


def needs(sweep: Sweep) -> list[Path]:
    return []


def make(sweep: Sweep, results: Path) -> "Table":
    from pissa_repro.report.tables.paper import glue_settings

    return glue_settings("Settings on GLUE (paper, Table 10)")
