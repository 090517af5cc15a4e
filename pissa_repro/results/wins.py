"""Every method of a sweep against every other one on the same base: differences, p-values, and Holm's correction."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from pissa_repro.results.least import FEWEST
from pissa_repro.results.multiple import holm, rejected
from pissa_repro.results.rows import Line
from pissa_repro.results.stats import seed_margin, t_p


@dataclass(frozen=True)
class Duel:
    """Two rows of a table. mean: of a minus b, as scored; margin: of its 95 % t interval; p, and p after Holm."""

    a: Line
    b: Line
    mean: float
    margin: float
    p: float
    adjusted: float

    @property
    def sign(self) -> int:
        """1 where a is higher, -1 where b is, 0 where the interval holds 0."""
        return 0 if not rejected(self.p) else 1 if self.mean > 0 else -1

    @property
    def holds(self) -> bool:
        """Whether the difference is still shown after the correction over all pairs of its group."""
        return rejected(self.adjusted)


@dataclass(frozen=True)
class Group:
    """The rows of one task, model, training data and base, in the config's order, and all pairs of them.

    lost: those of which a training diverged. They have no mean, and are in no pair.
    """

    lines: list[Line]
    duels: list[Duel]
    lost: list[Line]

    @property
    def first(self) -> Line:
        """A row to ask for everything that all share."""
        return (self.lines or self.lost)[0]

    def of(self, line: Line) -> Iterator[tuple[Line, int, bool]]:
        """What a row's pairs show: the other row, 1 where this one is better, -1 where it is worse, and `holds`."""
        way = 1 if line.measure.higher_is_better else -1
        for duel in self.duels:
            if line in (duel.a, duel.b):
                side = way if line is duel.a else -way
                yield duel.b if line is duel.a else duel.a, side * duel.sign, duel.holds


def groups(found: list[Line]) -> list[Group]:
    """The groups of a sweep's rows that have enough of them, and the same seeds. One item says nothing of others."""
    by_place: dict[tuple[object, ...], list[Line]] = {}
    for line in found:
        place = line.task, line.first.model, line.first.data, line.first.quant, tuple(cell.seed for cell in line.cells)
        by_place.setdefault(place, []).append(line)
    enough = (some for some in by_place.values() if len(some) >= FEWEST)
    split = (([one for one in some if not one.diverged], [one for one in some if one.diverged]) for some in enough)
    return [Group(kept, _duels(kept), lost) for kept, lost in split if not kept or kept[0].scores.shape[1] > 1]


def _duels(some: list[Line]) -> list[Duel]:
    pairs = list(combinations(some, 2))
    differences = [a.scores - b.scores for a, b in pairs]
    p = [t_p(d) for d in differences]
    facts = zip(pairs, differences, p, holm(p), strict=True)
    return [Duel(*pair, float(np.mean(d)), seed_margin(d), one, more) for pair, d, one, more in facts]
