"""DoRA and AdaLoRA on LoRA and on PiSSA, beside the paper's scores."""

from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.exhibits import _parts
from pissa_repro.plan.sweep import Sweep

if TYPE_CHECKING:
    from pissa_repro.report.tables.table import Table

PAPER, KIND, TARGET = "Table 5", "table", "paper"
NEEDS = "cells of DoRA or AdaLoRA beside LoRA or PiSSA (config/paper_embedded.yaml has them)"


def needs(sweep: Sweep) -> list[Path]:
    return _parts.scored(_part(sweep))


def make(sweep: Sweep, results: Path) -> "Table":
    from pissa_repro.paper.printed import combinations
    from pissa_repro.report.tables.paper import beside

    heading = "DoRA and AdaLoRA on LoRA and on PiSSA (paper, Table 5)"
    return beside(_part(sweep), results, heading, combinations(), "v4 Table 5")


def _part(sweep: Sweep) -> Sweep:
    plain, more = (_parts.LORA, _parts.PISSA), (_parts.DORA, _parts.PISSA_DORA, _parts.ADALORA, _parts.PISSA_ADALORA)
    return _parts.part(sweep, (*plain, *more) if _parts.pairs_of(_parts.part(sweep, more)) else ())
