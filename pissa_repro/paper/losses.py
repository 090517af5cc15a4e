"""Final training losses that were published, and whether ours agree: they are compared before any score.

Rerun, a configuration keeps its loss within 0.001, while its GSM8K moves by up to 2.9 points (pitfall 25,
docs/pitfalls.md). But the paper does not say which average its losses are: ours is the mean over the last tenth of the
steps. So a loss can agree, and what does not agree is undecided, whatever the distance.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from pissa_repro.paper.published import METHODS, TIERS, printed, superseded
from pissa_repro.paper.words import AGREES, UNDECIDED, Ours

RERUN = 0.001  # by how much a loss moves when a configuration is run again (pitfall 25)
DIGIT = 0.00005  # half a unit of the last printed digit
EXACT = "full_svd"
AVERAGE = "the paper does not say which average its loss is"


@dataclass(frozen=True)
class Loss:
    """One published final loss, in nats per token; tolerance: of printing, or of reading it from a picture."""

    model: str
    method: str
    quant: str
    rank: int
    mean: float
    tolerance: float
    paper_ref: str
    tier: str
    alternations: int | None = None
    remark: str | None = None


@cache
def entries() -> tuple[Loss, ...]:
    """All published final losses of the paper's short runs."""
    return (*_solvers(), *_sweep())


def _solvers() -> Iterator[Loss]:
    """v4 Table 6, PiSSA from an exact decomposition. Its model is not printed; the losses are LLaMA-2-7B's."""
    table = printed("fast_svd_v4")
    row = next(row for row in table["rows"]["train_loss"] if row["niter"] == EXACT)
    for key, mean in row.items():
        if key != "niter":
            remark, tier = "its model is derived, not printed", TIERS[table["confidence"]]
            place = ("llama-2-7b", "pissa", "none", int(key[1:]))
            yield Loss(*place, mean, DIGIT, f"{table['paper_ref']}, exact", tier, remark=remark)


def _sweep() -> Iterator[Loss]:
    """The 4-bit rank sweep, read from a picture."""
    table = printed("rank_sweep_quantised_llama2_7b_digitised")
    tolerance, tier = table["tolerance"]["train_loss"], TIERS[table["confidence"]]
    for row in table["rows"]["train_loss"]:
        t = None if row["method"] == "qlora" else table["setup"]["niter"]
        for rank, mean in zip(table["ranks"], row["values"], strict=True):
            place = (table["model"], METHODS[row["method"]][0], "nf4", rank)
            yield Loss(*place, mean, tolerance, table["paper_ref"], tier, t, superseded(table))


def lookup(model: str, method: str, quant: str, rank: int) -> Loss | None:
    """The published final loss of a setting; None where none was."""
    place = (model, method, quant, rank)
    return next((loss for loss in entries() if (loss.model, loss.method, loss.quant, loss.rank) == place), None)


def judged(ours: Ours, loss: Loss) -> tuple[str, str]:
    """The word for a comparable loss, and the numbers behind it. ours: its loss is finite.

    The tolerance is that of the published number, and how far two runs of ours lie apart, or RERUN where that was not
    measured.
    """
    assert ours.loss is not None
    difference, tolerance = ours.loss - loss.mean, loss.tolerance + (ours.loss_noise or RERUN)
    word = AGREES if abs(difference) <= tolerance else UNDECIDED
    remarks = [part for part in (loss.remark, AVERAGE) if part]
    numbers = f"{ours.loss:.4f} here, {loss.mean:g} in {loss.paper_ref} ({loss.tier}), difference {difference:+.4f}"
    return word, f"final loss {numbers}, tolerance {tolerance:.4f}: {word} ({'; '.join(remarks)})"


def diverged(ours: Ours) -> bool:
    """Whether the training of a score ended with a loss that is no number."""
    return ours.loss is not None and not math.isfinite(ours.loss)
