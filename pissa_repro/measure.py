"""How the scores of a task file are shown: their unit, its words, and which way is better. Imports no torch."""

from dataclasses import dataclass

from pissa_repro.config import task_metadata, task_metrics
from pissa_repro.published import METRIC

PERCENT = "percent"
DIGITS = {"nats per token": 4}  # 2 in other units: a hundredth of a nat is more than most methods differ by


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

    def better(self, one: float, other: float) -> bool:
        """Whether the first of two scores is the better one."""
        return one > other if self.higher_is_better else one < other


def measure(task_file: str) -> Measure:
    """The measure of a task file. Its second metric is the first one after `paper`; None if there is no other."""
    metrics = task_metrics(task_file)
    names = list(metrics)
    second = next(iter(names[names.index(METRIC) + 1 :]), None)
    return Measure(
        unit=task_metadata(task_file)["unit"],
        higher_is_better=metrics[METRIC]["higher_is_better"],
        second=second,
        second_in_unit=second is not None and metrics[second]["aggregation"] == "mean",
    )
