"""The same as Figure 4 with the methods on nf4: LLaMA-3-8B, and models of no other figure."""

from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.exhibits import _parts
from pissa_repro.plan.sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER, KIND, TARGET = "Figure 5", "figure", "paper"
NEEDS = "cells on nf4 beside those of Figure 4, on LLaMA-3-8B or a model of no other figure"


def needs(sweep: Sweep) -> list[Path]:
    part = _part(sweep)
    return [*_parts.curves(part), *_parts.scored(part)]


def make(sweep: Sweep, results: Path) -> "Figure":
    from pissa_repro.report.figures.whole import whole

    return whole(_part(sweep), results, "Loss, gradient norm and scores, with quantized bases", digitised=True)


def _part(sweep: Sweep) -> Sweep:
    quantized = (_parts.QLORA, _parts.LOFTQ, _parts.QPISSA)
    part = _parts.part(sweep, (_parts.FULL, _parts.LORA, _parts.PISSA, *quantized))
    part = _parts.others(part, "llama-2-7b", "mistral-7b-v0.1", "gemma-7b")
    return part if _parts.pairs_of(part) & {*quantized} else _parts.part(sweep, ())
