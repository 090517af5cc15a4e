"""Over the rank: error reduction of the first projection type, final loss, and scores; the paper's below."""

from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.exhibits import _parts
from pissa_repro.plan import studies
from pissa_repro.plan.sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER, KIND, TARGET = "Figure 7", "figure", "paper"
NEEDS = "several ranks of LoRA, PiSSA and the methods on nf4 (config/paper_embedded.yaml)"


def needs(sweep: Sweep) -> list[Path]:
    part = _part(sweep)
    return [*_parts.scored(part), *studies.tables(sweep, "errors_ranks")] if part.cells else []


def make(sweep: Sweep, results: Path) -> "Figure":
    from pissa_repro.report.figures.over_rank import over_rank

    return over_rank(_part(sweep), results, "Error reduction, loss and scores over the rank", reductions=True)


def _part(sweep: Sweep) -> Sweep:
    pairs = (_parts.FULL, _parts.LORA, _parts.PISSA, _parts.QLORA, _parts.LOFTQ, _parts.QPISSA)
    part = _parts.others(_parts.part(sweep, pairs), "llama-3-8b", "mistral-7b-v0.1", "gemma-7b")
    return _parts.over_ranks(part)
