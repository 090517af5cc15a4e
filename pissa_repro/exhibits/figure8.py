"""Principal, middle or minor singular triples: final loss and scores by model."""

from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.exhibits import _parts
from pissa_repro.plan.sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER, KIND, TARGET = "Figure 8", "figure", "paper"
NEEDS = "cells of at least two of pissa, middle and milora without quantization (config/paper_embedded.yaml)"


def needs(sweep: Sweep) -> list[Path]:
    return _parts.scored(_part(sweep))


def make(sweep: Sweep, results: Path) -> "Figure":
    from pissa_repro.report.figures.groups import by_model

    note = "PiSSA: principal, MiLoRA: minor triples; the values of the paper's bars are not printed"
    return by_model(_part(sweep), results, "Principal, middle or minor singular triples", note, loss=True)


def _part(sweep: Sweep) -> Sweep:
    part = _parts.part(sweep, (_parts.PISSA, _parts.MIDDLE, _parts.MINOR))
    return part if len(_parts.pairs_of(part)) > 1 else _parts.part(sweep, ())
