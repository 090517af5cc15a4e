"""Many comparisons in one table: Holm's correction, and how small a difference is known to be."""

from collections.abc import Iterable, Sequence

from pissa_repro.results.pvalues import ALPHA

DELTAS = (1.0, 2.0, 3.0)  # percentage points: what may be called equivalent, the smallest first


def holm(p: Sequence[float]) -> list[float]:
    """The p-values corrected for their number, each at least as large as before; the order of the values stays.

    Rejecting those that are at most ALPHA keeps the chance of any false rejection among all below ALPHA, whatever the
    dependence between the tests. Holm 1979, "A simple sequentially rejective multiple test procedure", Scandinavian
    Journal of Statistics 6.
    """
    corrected, largest = [1.0] * len(p), 0.0
    for rank, index in enumerate(sorted(range(len(p)), key=lambda index: p[index])):
        largest = max(largest, min(1.0, (len(p) - rank) * p[index]))
        corrected[index] = largest
    return corrected


def rejected(p: float) -> bool:
    """Whether a p-value says that there is a difference."""
    return p <= ALPHA


def within(low: float, high: float, deltas: Iterable[float] = DELTAS) -> float | None:
    """The smallest delta whose range -delta to +delta holds the whole interval; None where none does.

    With a 95 % interval each delta is tested from both sides at 2.5 %. The ranges lie within each other, so that asking
    for several costs nothing: to say too small a delta, the interval must miss the truth. Schuirmann 1987, "A
    comparison of the two one-sided tests procedure and the power approach", Journal of Pharmacokinetics and
    Biopharmaceutics 15.
    """
    return next((delta for delta in deltas if -delta <= low and high <= delta), None)
