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


def noise(sweep: Sweep, line: Line, all_lines: Sequence[Line]) -> Noise:
    """The noise floor of the rows beside a row: the same task, model and training data."""
    here = [one for one in all_lines if place(one) == place(line)]
    several = [one for one in here if len(one.cells) > 1]
    ordered = [one for one in several if len({cell.start_seed for cell in one.cells}) == 1]
    return Noise(
        score=repeatability([_means(one) for one in several]),
        loss=repeatability([losses for one in several if finite(losses := one.numbers("final_loss"))]),
        order=repeatability([_means(one) for one in ordered]),
        back_ends=_back_ends(sweep, here, all_lines),
        rows=len(several),
    )


def place(line: Line) -> tuple[str, str, str]:
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


def finite(values: Sequence[float]) -> bool:
    """Whether there are numbers, and all are."""
    return bool(values) and bool(np.isfinite(values).all())


def _means(line: Line) -> list[float]:
    return [float(mean) for mean in line.measure.scale * line.scores.mean(axis=1)]


def _back_ends(sweep: Sweep, here: Sequence[Line], all_lines: Sequence[Line]) -> float | None:
    """The largest difference between the scores of one cell whose tasks differ in their back-end alone."""
    seen = [
        abs(score - again)
        for one in here
        for other in all_lines
        if other.cells == one.cells and _back_end_alone(sweep, one.task, other.task)
        for score, again in zip(_means(one), _means(other), strict=True)
    ]
    return max(seen, default=None)


def _back_end_alone(sweep: Sweep, task: str, other: str) -> bool:
    defined = sweep.config["tasks"]
    same = defined[task]["dataset"] == defined[other]["dataset"]
    asked, again = (dict(sweep.asked(name)) for name in (task, other))
    return same and asked.pop("backend") != again.pop("backend") and asked == again
