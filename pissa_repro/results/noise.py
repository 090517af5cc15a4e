"""The noise floor of a table: how far two runs of one setting lie apart, as measured on its own rows.

A difference within it needs no other cause. Whose runs differ in the order of the data alone, or in the back-end that
wrote the answers alone, is said where there are such records.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pissa_repro.plan.sweep import Sweep
from pissa_repro.results.rows import Line
from pissa_repro.results.stats import Z

Place = tuple[str, str, str]  # task, model and training data


@dataclass(frozen=True)
class Noise:
    """By how much two runs of one setting differ at most in 95 of 100 cases; None where that was not measured.

    score: in the unit of the scores, over seeds; loss: final loss; order: score of the rows whose start is not random,
    so that a seed is the order of the data and nothing else; back_ends: the largest difference of score that was seen
    between tasks that differ in their back-end alone; rows: how many rows the first two are of.
    """

    score: float | None = None
    loss: float | None = None
    order: float | None = None
    back_ends: float | None = None
    rows: int = 0


def by_place(sweep: Sweep, lines: Sequence[Line]) -> dict[Place, Noise]:
    """The noise floor of the rows that share task, model and training data."""
    places: dict[Place, list[Line]] = {}
    same_cells: dict[str, list[Line]] = {}
    for line in lines:
        places.setdefault(place(line), []).append(line)
        same_cells.setdefault(line.first.name, []).append(line)
    return {key: _noise(sweep, here, same_cells) for key, here in places.items()}


def _noise(sweep: Sweep, here: Sequence[Line], same_cells: dict[str, list[Line]]) -> Noise:
    several = [line for line in here if len(line.cells) > 1 and not line.diverged]
    ordered = [line for line in several if len({cell.start_seed for cell in line.cells}) == 1]
    return Noise(
        score=repeatability([_means(line) for line in several]),
        loss=repeatability([line.numbers("final_loss") for line in several]),
        order=repeatability([_means(line) for line in ordered]),
        back_ends=max((gap for line in here for gap in _gaps(sweep, line, same_cells[line.first.name])), default=None),
        rows=len(several),
    )


def place(line: Line) -> Place:
    """Task, model and training data of a row."""
    return line.task, line.first.model, line.first.data


def repeatability(runs: Sequence[Sequence[float]]) -> float | None:
    """1.96 sqrt(2) s for groups of runs that share a setting, s pooled over the groups; None without two alike.

    ISO 5725-6: the repeatability limit, which the difference of two runs exceeds in 5 of 100 cases.
    """
    freedom = sum(len(values) - 1 for values in runs if len(values) > 1)
    if not freedom:
        return None
    squares = sum(np.var(values, ddof=1) * (len(values) - 1) for values in runs if len(values) > 1)
    return float(Z * (2 * squares / freedom) ** 0.5)


def _means(line: Line) -> list[float]:
    return [float(mean) for mean in line.measure.scale * line.scores.mean(axis=1)]


def _gaps(sweep: Sweep, line: Line, others: Sequence[Line]) -> list[float]:
    """How far the scores of each cell of a row lie from those of the same cell on another back-end."""
    again = [other for other in others if not line.diverged and _back_end_alone(sweep, line.task, other.task)]
    return [abs(a - b) for other in again for a, b in zip(_means(line), _means(other), strict=True)]


def _back_end_alone(sweep: Sweep, task: str, other: str) -> bool:
    defined = sweep.config["tasks"]
    same = defined[task]["dataset"] == defined[other]["dataset"]
    asked, again = (dict(sweep.asked(name)) for name in (task, other))
    return same and asked.pop("backend") != again.pop("backend") and asked == again
