"""The learning rate as an axis: each method at the one rate of all, and at the rate chosen on validation items.

The rate is chosen before any item but those of validation tasks is read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pissa_repro.plan.cells import Point
from pissa_repro.plan.sweep import Sweep
from pissa_repro.plan.validation import VALIDATION
from pissa_repro.results import stats
from pissa_repro.results.rows import Line, chosen_rates, lines, place, read_scores, references
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError


@dataclass(frozen=True, eq=False)
class Beside:
    """A row at some rate and the reference that it is compared with. None: there is no such row, or not one."""

    line: Line | None
    reference: Line | None

    @property
    def gaps(self) -> np.ndarray | None:
        """Scores of the row minus those of its reference (seeds, items); None where there is nothing to compare."""
        if self.line is None or self.reference is None or self.reference is self.line:
            return None
        if self.line.diverged or self.reference.diverged or self.line.scores.shape[1] < 2:
            return None
        seeds = [[cell.seed for cell in side.cells] for side in (self.line, self.reference)]
        if seeds[0] != seeds[1]:
            raise UserError(
                f"{self.line.first.name}: seeds {seeds[0]}, its reference has {seeds[1]}; both need the same."
            )
        return np.asarray(self.line.scores - self.reference.scores)

    @property
    def difference(self) -> stats.Difference | None:
        """The mean of these gaps with its interval."""
        if self.gaps is None or self.line is None or self.reference is None:
            return None
        return stats.paired_bootstrap(self.line.scores, self.reference.scores)


@dataclass(frozen=True, eq=False)
class Swept:
    """The rows that differ in their rate only, from the smallest; that at the one rate of all, and the chosen one."""

    rates: list[Line]
    common: Beside
    best: Beside

    @property
    def first(self) -> Line:
        """A row to ask for everything that the rates share."""
        return self.rates[0]

    @property
    def at_edge(self) -> bool:
        """Whether the chosen rate is the smallest or largest that was tried: one beyond may be better."""
        return self.best.line is not None and self.best.line in (self.rates[0], self.rates[-1])

    @property
    def change(self) -> stats.Difference | None:
        """By how much the gap to the reference grows from the one rate to the chosen ones, paired by item and seed.

        None where one of the gaps is not there, or both are of the same trainings. The interval takes the chosen rates
        as given: it does not hold that other validation items might have chosen others.
        """
        common, best = self.common.gaps, self.best.gaps
        same = (self.common.line, self.common.reference) == (self.best.line, self.best.reference)
        return None if common is None or best is None or same else stats.paired_bootstrap(best, common)


def swept(sweep: Sweep, results: Path, common: float | None) -> list[Swept]:
    """The settings of a sweep over their rates, for each task but those of validation, in the config's order.

    common: the one rate of all methods. Raises UserError as `lines`.
    """
    tasks, scores = sweep.config["sweep"]["tasks"], read_scores(paths.scores(results))
    validation = [task for task in tasks if task.endswith(VALIDATION)]
    chosen = chosen_rates(lines(sweep, scores, results, validation)[0])
    others, _ = lines(sweep, scores, results, [task for task in tasks if task not in validation])
    return over_rates(sweep, others, chosen, common)


def over_rates(
    sweep: Sweep, rows: Sequence[Line], chosen: dict[tuple[str, Point], float], common: float | None
) -> list[Swept]:
    """The same of rows that are read already. chosen: by `chosen_rates`."""
    groups: dict[tuple[str, Point], list[Line]] = {}
    for line in rows:
        groups.setdefault((line.task, place(line)), []).append(line)
    at_common = [line for line in rows if line.first.learning_rate == common]
    at_best = [line for line in rows if chosen.get((line.task, place(line))) == line.first.learning_rate]
    return [
        Swept(
            sorted(own, key=lambda line: line.first.learning_rate),
            _beside(sweep, own, at_common, same_rate=True),
            _beside(sweep, own, at_best, same_rate=False),
        )
        for own in groups.values()
    ]


def _beside(sweep: Sweep, own: list[Line], picked: list[Line], same_rate: bool) -> Beside:
    """The one of a setting's rows that is among the picked, and its one reference among these."""
    line = next((line for line in own if line in picked), None)
    fit = references(sweep, line, picked, same_rate) if line else []
    return Beside(line, fit[0] if len(fit) == 1 else None)
