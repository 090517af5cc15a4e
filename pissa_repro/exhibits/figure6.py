"""Scores of LoRA and PiSSA by model, or of QLoRA and QPiSSA, and the paper's bars."""

from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.exhibits import _parts
from pissa_repro.plan.sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER, KIND, TARGET = "Figure 6", "figure", "paper"
NEEDS = "cells of LoRA and PiSSA on the same base, plain or nf4"


def needs(sweep: Sweep) -> list[Path]:
    return _parts.scored(_part(sweep))


def make(sweep: Sweep, results: Path) -> "Figure":
    from pissa_repro.report.figures.groups import by_model

    note = "hatched: quantized base; the paper's bars are those of Figure 6 of version 3"
    return by_model(_part(sweep), results, "LoRA and PiSSA by model", note, printed=True)


def _part(sweep: Sweep) -> Sweep:
    bases = ((_parts.LORA, _parts.PISSA), (_parts.QLORA, _parts.QPISSA))
    swept = _parts.pairs_of(sweep)
    return _parts.part(sweep, [pair for pairs in bases if swept >= {*pairs} for pair in pairs])
