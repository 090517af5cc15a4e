"""Rank correlation of two numbers over cells, with an interval. Needs numpy."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pissa_repro.results.stats import DRAWS, LEVEL

FEWEST = 5  # points: of fewer, draws of one point alone, which have no order, are no longer rare


class Correlation(NamedTuple):
    """Kendall's tau-b of n pairs, from -1 to 1, and the ends of its 95 % interval."""

    tau: float
    low: float
    high: float
    n: int


def kendall(a: Sequence[float], b: Sequence[float]) -> Correlation | None:
    """Kendall's tau-b of the pairs (a_i, b_i), with the percentiles of a bootstrap over the pairs.

    Kendall 1945, "The treatment of ties in ranking problems", Biometrika 33. A pair that a draw holds twice is tied
    with itself. None where the pairs are fewer than FEWEST, or where one side is the same in all.
    """
    first, second = (np.sign(np.subtract.outer(side, side)) for side in (np.asarray(a, float), np.asarray(b, float)))
    n = len(first)
    if n < FEWEST or not first.any() or not second.any():
        return None
    counts = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=DRAWS)
    drawn = _tau(first, second, counts)
    low, high = np.nanquantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Correlation(float(_tau(first, second, np.ones((1, n)))[0]), float(low), float(high), n)


def _tau(first: np.ndarray, second: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """tau-b (draws,) of signs of differences (n, n), each point counts (draws, n) times; NaN without order."""
    both, one, other = (
        np.einsum("di,ij,dj->d", counts, signs, counts, optimize=True)
        for signs in (first * second, np.abs(first), np.abs(second))
    )
    ordered = np.sqrt(one * other)
    return np.divide(both, ordered, out=np.full(len(both), np.nan), where=ordered > 0)
