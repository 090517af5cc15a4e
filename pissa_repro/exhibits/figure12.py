"""The same as Figure 4 of Mistral-7B-v0.1."""

from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.exhibits import _parts
from pissa_repro.plan.sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER, KIND, TARGET = "Figure 12", "figure", "paper"
NEEDS = "cells of full fine-tuning, LoRA or PiSSA on a model with `paper: mistral-7b-v0.1` (config/paper.yaml)"


def needs(sweep: Sweep) -> list[Path]:
    part = _part(sweep)
    return [*_parts.curves(part), *_parts.scored(part)]


def make(sweep: Sweep, results: Path) -> "Figure":
    from pissa_repro.report.figures.whole import whole

    return whole(_part(sweep), results, "Loss, gradient norm and scores")


def _part(sweep: Sweep) -> Sweep:
    return _parts.part(sweep, (_parts.FULL, _parts.LORA, _parts.PISSA), "mistral-7b-v0.1")
