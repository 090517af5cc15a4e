"""P-values that belong to intervals: the level at which an interval just holds 0.

So a p-value never says another thing than the interval that is printed beside it.
"""

from collections.abc import Callable

import numpy as np

ALPHA = 0.05  # of the tests: 1 less the level of the intervals
LEAST = 1e-12  # the smallest p-value that is told from 0


def agreeing(p: float, excludes: bool) -> float:
    """A p-value on the side of ALPHA that its interval is on: two ways of counting draws may part by one draw."""
    return min(p, ALPHA) if excludes else max(p, float(np.nextafter(ALPHA, 1)))


def smallest_p(excludes: Callable[[float], bool]) -> float:
    """The p-value that belongs to an interval: the smallest p at which the interval of the level 1 - p excludes 0.

    By bisection of log p. 1 where no interval does, LEAST where that one does.
    """
    low, high = np.log10(LEAST), 0.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if excludes(10**middle) else (middle, high)
    return float(10**high)


def inverted(bounds: Callable[[float], tuple[float, float]]) -> float:
    """The p-value of no difference of an interval (low, high), which is a function of the normal quantile."""
    from scipy.special import ndtri  # the quantile of the normal distribution

    def excludes(p: float) -> bool:
        low, high = bounds(-float(ndtri(p / 2)))
        return low > 0 or high < 0

    low, high = bounds(-float(ndtri(ALPHA / 2)))
    return float("nan") if np.isnan([low, high]).any() else agreeing(smallest_p(excludes), low > 0 or high < 0)
