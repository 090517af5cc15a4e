"""The words of a verdict, and the one rule that chooses among them.

Published numbers come without items, so that a comparison with them is unpaired. All numbers here are in
percent or percentage points.
"""

import math
from dataclasses import dataclass

from pissa_repro.results.multiple import DELTAS, within
from pissa_repro.results.pvalues import inverted
from pissa_repro.results.stats import Z, unpaired, wilson
from pissa_repro.tasks import METRIC

AGREES, DIFFERS, UNDECIDED, NOT_COMPARABLE = "agrees", "differs", "undecided", "not comparable"
HALF_WIDTH = 4.0  # the widest interval, to one side, that may be called agreement: GSM8K's is 3.8
CONTRADICTS = 2.0  # two single runs of one setting that are further apart contradict each other
DECLARED = "as declared in the config"


@dataclass(frozen=True)
class Ours:
    """A score of ours: in percent or the benchmark's unit, its error over items and seeds, and its n items.

    stderr None: not known, that of n independent items is assumed. spread: standard deviation over seeds.
    loss: final training loss, nats per token. noise, loss_noise: by how much two runs of one setting differ at most in
    95 of 100 cases (results/noise.py). None: not known.
    """

    mean: float
    stderr: float | None
    n: int
    metric: str = METRIC
    seeds: int = 1
    spread: float | None = None
    loss: float | None = None
    noise: float | None = None
    loss_noise: float | None = None


@dataclass(frozen=True)
class Interval:
    """A difference to the published number, with its 95 % interval, and the p-value of no difference."""

    mean: float
    low: float
    high: float
    p: float | None = None

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2

    def __str__(self) -> str:
        return f"difference {self.mean:+.2f} [{self.low:+.2f}, {self.high:+.2f}], half-width {self.half_width:.2f}"


def difference(ours: Ours, mean: float, stderr: float) -> Interval:
    """Ours minus a published score with its standard error, by Newcombe's interval."""
    a, b = _share(ours.mean, ours.stderr, ours.n), _share(mean, stderr, ours.n)
    low, high = unpaired(a, b)
    return Interval(ours.mean - mean, 100 * low, 100 * high, inverted(lambda quantile: unpaired(a, b, quantile)))


def _share(mean: float, stderr: float | None, n: int) -> tuple[float, float]:
    """A score as a share of 1, and the number of independent items that would have its error.

    At 0 and 100 % the error says nothing (it is 0), nor does an error that is missing: then it is n.
    """
    p = mean / 100
    known = stderr is not None and math.isfinite(stderr) and stderr > 0 and 0 < p < 1
    return p, p * (1 - p) / (stderr / 100) ** 2 if known and stderr else n


def word(interval: Interval, deltas: tuple[float, ...] = DELTAS) -> str:
    """The word for a difference; a number that is none (NaN) has no order, and is not comparable.

    differs: the interval excludes 0. equivalent: it lies inside ± one of deltas, the smallest is said. agrees: it
    holds 0, and is at most HALF_WIDTH to one side. undecided: it holds 0, and so much else that this says nothing.
    """
    if not all(map(math.isfinite, (interval.mean, interval.low, interval.high))):
        return NOT_COMPARABLE
    if interval.low > 0 or interval.high < 0:
        return DIFFERS
    if delta := within(interval.low, interval.high, deltas):
        return equivalent(delta)
    return AGREES if interval.half_width <= HALF_WIDTH else UNDECIDED


def equivalent(delta: float) -> str:
    """The word for a difference that is known to be small."""
    return f"equivalent within {delta:g} point{'s' if delta != 1 else ''}"


def deciding(ours: Ours, stderr: float) -> str:
    """How many seeds, or else items, would bring the half-width to HALF_WIDTH, next to a published standard error."""
    allowed = (HALF_WIDTH / Z) ** 2 - stderr**2
    if allowed <= 0:
        return f"no number of seeds here would decide: the published score alone is known to ±{Z * stderr:.1f} points"
    p, n = _share(ours.mean, ours.stderr, ours.n)
    low, high = wilson(p, n)
    total = 1e4 * (p * (1 - p) / n or ((high - low) / 2 / Z) ** 2)  # at 0 and 100 % from Wilson's interval
    seeds = (ours.spread or 0.0) ** 2
    items = max(total - seeds / ours.seeds, 0.0)
    if seeds and items < allowed:
        return f"{max(math.ceil(seeds / (allowed - items)), ours.seeds + 1)} seeds would decide"
    return f"{max(math.ceil(ours.n * total / allowed), ours.n + 1)} items would decide"
