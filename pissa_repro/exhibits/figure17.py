"""Gradient norm of LoRA and PiSSA over the steps, a panel for each model and rank."""

from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.exhibits import _parts
from pissa_repro.plan.sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER, KIND, TARGET = "Figure 17", "figure", "paper"
NEEDS = "several ranks of LoRA or PiSSA (config/paper_embedded.yaml)"


def needs(sweep: Sweep) -> list[Path]:
    return _parts.curves(_part(sweep))


def make(sweep: Sweep, results: Path) -> "Figure":
    from pissa_repro.report.figures.steps import grad_norm

    return grad_norm(_part(sweep), results)


def _part(sweep: Sweep) -> Sweep:
    return _parts.over_ranks(_parts.part(sweep, (_parts.LORA, _parts.PISSA)))
