"""Many comparisons at once: p-values of paired differences, and their correction over a table. Needs numpy."""

from collections.abc import Sequence

import numpy as np

SMALLEST = 1e-300  # p-values below are not told apart
HALVINGS = 60  # of the range of p: its logarithm is then known to 1e-15


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p-values: below 0.05 are those that hold together with an error of 5 % over all of them.

    Holm 1979, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6. It asks
    for nothing of how the tests depend on each other.
    """
    adjusted, most = [0.0] * len(p), 0.0
    for place, index in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        most = max(most, min(1.0, (len(p) - place) * p[index]))
        adjusted[index] = most
    return adjusted


def paired(a: np.ndarray, b: np.ndarray) -> float:
    """Two-sided p-value of the difference of two means on the same items and seeds, from scores (seeds, items).

    The p at which the t interval of stats.seed_margin would just reach 0; so it is below 0.05 where that interval does
    not hold 0. No bootstrap: of 10,000 draws the smallest p is 2e-4, and a correction over a table needs smaller ones.
    Where every item has the same difference there is no spread: then it is the sign test's.
    """
    from scipy.special import stdtrit  # the quantile of t

    difference = np.atleast_2d(np.asarray(a, dtype=float) - np.asarray(b, dtype=float))
    mean = abs(float(difference.mean()))
    sides = [side for side in (difference.mean(axis=1), difference.mean(axis=0)) if len(side) > 1]
    parts = [(float(side.var(ddof=1)) / len(side), len(side) - 1) for side in sides]
    variance = sum(part for part, _ in parts)
    if not variance or not mean:
        return 1.0 if not mean else min(1.0, 2.0 ** (1 - difference.shape[1]))
    low, high = np.log(SMALLEST), 0.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        margin = sum(-part * float(stdtrit(df, np.exp(middle) / 2)) for part, df in parts) / variance**0.5
        low, high = (middle, high) if margin > mean else (low, middle)
    return float(np.exp(high))
