"""Loss, gradient norm and scores of full fine-tuning, LoRA and PiSSA: LLaMA-2-7B, and models of no other figure."""

from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.exhibits import _parts
from pissa_repro.plan.sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER, KIND, TARGET = "Figure 4", "figure", "paper"
NEEDS = "cells of full fine-tuning, LoRA or PiSSA on a model that is not of Figures 5, 12 and 13"


def needs(sweep: Sweep) -> list[Path]:
    part = _part(sweep)
    return [*_parts.curves(part), *_parts.scored(part)]


def make(sweep: Sweep, results: Path) -> "Figure":
    from pissa_repro.report.figures.whole import whole

    return whole(_part(sweep), results, "Loss, gradient norm and scores")


def _part(sweep: Sweep) -> Sweep:
    part = _parts.part(sweep, (_parts.FULL, _parts.LORA, _parts.PISSA))
    return _parts.others(part, "llama-3-8b", "mistral-7b-v0.1", "gemma-7b")
