"""Final loss and scores of full fine-tuning, LoRA and PiSSA over the rank, by model; the paper's below."""

from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.exhibits import _parts
from pissa_repro.plan.sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER, KIND, TARGET = "Figure 15", "figure", "paper"
NEEDS = "several ranks of LoRA or PiSSA (config/paper_embedded.yaml)"


def needs(sweep: Sweep) -> list[Path]:
    return _parts.scored(_part(sweep))


def make(sweep: Sweep, results: Path) -> "Figure":
    from pissa_repro.report.figures.over_rank import over_rank

    return over_rank(_part(sweep), results, "Loss and scores over the rank", reductions=False)


def _part(sweep: Sweep) -> Sweep:
    return _parts.over_ranks(_parts.part(sweep, (_parts.FULL, _parts.LORA, _parts.PISSA)))
