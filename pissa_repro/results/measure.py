"""How the scores of a task file are shown: their unit, its words, and which way is better. Imports no torch."""

from dataclasses import dataclass

from pissa_repro import tasks
from pissa_repro.tasks import METRIC

PERCENT = "percent"
DIGITS = {"nats per token": 4}  # 2 in other units: a hundredth of a nat is more than most methods differ by


VERDICT = {  # by higher_is_better: what is called "better" and "worse" where higher is better
    True: {},
    False: {"better": "worse", "worse": "better"},
    None: {"better": "higher", "worse": "lower"},
}


def verdict(shown: str, higher_is_better: bool | None) -> str:
    """The verdict of stats.Difference, which takes higher for better, in words. None: which is better is not known."""
    return VERDICT[higher_is_better].get(shown, shown)


@dataclass(frozen=True)
class Measure:
    """What a table says of one task file's scores."""

    unit: str
    higher_is_better: bool
    second: str | None  # the metric that stands beside the paper's
    second_in_unit: bool  # a metric that is no mean over items has a unit of its own

    @property
    def scale(self) -> float:
        """What a score of a record is multiplied by: records hold fractions of 1 where the unit is percent."""
        return 100.0 if self.unit == PERCENT else 1.0

    @property
    def second_scale(self) -> float:
        """The same for the second metric."""
        return self.scale if self.second_in_unit else 1.0

    @property
    def name(self) -> str:
        """What a score is called."""
        return "accuracy" if self.unit == PERCENT else "score"

    @property
    def symbol(self) -> str:
        """The unit in the head of a column."""
        return "%" if self.unit == PERCENT else self.unit

    @property
    def points(self) -> str:
        """The unit of a difference: of percentages, points."""
        return "points" if self.unit == PERCENT else self.unit

    @property
    def second_head(self) -> str | None:
        """The second metric's name and unit in the head of a column; None without one."""
        return f"{self.second}, {self.symbol}" if self.second and self.second_in_unit else self.second

    @property
    def digits(self) -> int:
        """Digits after the point."""
        return DIGITS.get(self.unit, 2)

    @property
    def second_digits(self) -> int:
        """The same for the second metric."""
        return self.digits if self.second_in_unit else 2

    def better(self, score: float, other: float) -> bool:
        """Whether a score is better than another."""
        return score > other if self.higher_is_better else score < other


def measure_of(task_file: str, metric: str = METRIC) -> Measure:
    """The measure of a metric of a task file. The second metric is the first after `paper`; None without another."""
    metrics = tasks.metrics(task_file)
    names = list(metrics)
    second = next(iter(names[names.index(METRIC) + 1 :]), None)
    return Measure(
        unit=tasks.metadata(task_file)["unit"],
        higher_is_better=metrics[metric]["higher_is_better"],
        second=second,
        second_in_unit=second is not None and metrics[second]["aggregation"] == "mean",
    )
