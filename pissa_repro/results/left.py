"""How long the rest of a sweep takes: by jobs of the same kind that are done, else by the forecast of a training."""

import statistics
from collections.abc import Hashable, Iterable, Mapping
from functools import cached_property
from pathlib import Path

from pissa_repro.plan.sweep import Sweep
from pissa_repro.results.forecast import Forecast
from pissa_repro.results.status import Found
from pissa_repro.runtime import paths

Kind = tuple[Hashable, ...]


class Left:
    """Estimates for the jobs of a sweep that are not done."""

    def __init__(self, sweep: Sweep, results: Path):
        self.sweep, self.results = sweep, results
        self.forecasts: dict[Kind, float | None] = {}

    def fill(self, found: Iterable[Found]) -> None:
        """Give every job that is not done the seconds that it still takes; None where nobody knows.

        A running job keeps what it says itself; without a word of it, it is taken to have just begun.
        """
        jobs = list(found)
        rates = _rates(jobs)
        for one in jobs:
            if not one.finished and one.left is None:
                one.left = self._seconds(one, rates)

    def _seconds(self, one: Found, rates: Mapping[Kind, float]) -> float | None:
        if not one.job.kinds:
            return 0.0
        for kind in one.job.kinds:
            if kind in rates:
                return rates[kind] * one.job.size
        return self._training(one.job.kinds[0], one.job.name) if one.job.stage == "train" else None

    def _training(self, kind: Kind, name: str) -> float | None:
        """Seconds of a training that is like none of this sweep: by other sweeps' records, or by arithmetic."""
        if kind not in self.forecasts:
            (item,) = self._forecast.items(self.sweep.only({name}), [paths.cell(name).train])
            cards = max(1, self.sweep.config["models"][item.model].get("gpus", 0))  # its hours are of all cards
            self.forecasts[kind] = None if item.hours is None else 3600 * item.hours / cards
        return self.forecasts[kind]

    @cached_property
    def _forecast(self) -> Forecast:
        return Forecast(self.sweep, self.results)


def _rates(found: Iterable[Found]) -> dict[Kind, float]:
    """Seconds of a part of a job, the median over those that are done, by kind."""
    known: dict[Kind, list[float]] = {}
    for one in found:
        if one.state == "done" and one.seconds is not None:  # one that diverged has ended early
            for kind in one.job.kinds:
                known.setdefault(kind, []).append(one.seconds / one.job.size)
    return {kind: statistics.median(some) for kind, some in known.items()}
