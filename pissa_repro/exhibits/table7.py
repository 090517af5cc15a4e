"""Full fine-tuning in bfloat16 and in float32: final loss and scores, beside the paper's."""

from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.exhibits import _parts
from pissa_repro.plan.sweep import Sweep

if TYPE_CHECKING:
    from pissa_repro.report.tables.table import Table

PAPER, KIND, TARGET = "Table 7", "table", "paper"
NEEDS = "full fine-tuning in bfloat16 and in float32, one of them by an override of dtype (config/paper_embedded.yaml)"


def needs(sweep: Sweep) -> list[Path]:
    return _parts.scored(_part(sweep))


def make(sweep: Sweep, results: Path) -> "Table":
    from pissa_repro.paper.printed import LOSS, precisions
    from pissa_repro.report.tables.paper import beside

    heading = "Full fine-tuning in bfloat16 and in float32 (paper, Table 7)"
    return beside(_part(sweep), results, heading, precisions(), "v4 Table 7", [LOSS])


def _part(sweep: Sweep) -> Sweep:
    full = _parts.part(sweep, [_parts.FULL])
    dtypes = {dict(cell.train)["dtype"] for cell in full.cells.values()}
    return full if len(dtypes) > 1 else _parts.part(sweep, ())
