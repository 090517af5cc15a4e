"""A point of the sweep and the cell that is trained there; their names are folders of results."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from pissa_repro.plan.sections import Override


class Point(NamedTuple):
    """One point of the sweep as the config writes it, before overrides."""

    model: str
    data: str
    method: str
    quant: str
    rank: int
    learning_rate: float
    seed: int

    @property
    def shared(self) -> str:
        """The name of what all methods share at this point."""
        return f"{self.model}/{self.data}/r{self.rank}-lr{number(self.learning_rate)}-s{self.seed}"

    def meets(self, override: Override) -> bool:
        """Whether an override of the config applies here."""
        here = {"model": self.model, "dataset": self.data, "method": self.method, "quant": self.quant}
        return override["where"].items() <= here.items()


@dataclass(frozen=True)
class Cell:
    """What is trained and scored at a point: model x data x method x quant x rank x learning rate x seed."""

    model: str
    data: str
    method: str
    quant: str
    rank: int  # 0 where the method has no factors
    learning_rate: float
    seed: int
    start_seed: int  # the seed of the factors: 0 for a method whose start is not random
    train: tuple[tuple[str, Any], ...]  # the training settings after overrides
    reasons: tuple[str, ...] = ()  # why the overrides that apply do
    treated_alone: bool = False  # whether one of them is aimed at this method
    seen: str = ""  # the dataset whose statistics the factors start from; of most methods none
    loss: str = "response"  # the loss of rows with a response, whatever the rows of `data` teach

    @property
    def name(self) -> str:
        """The cell's folder below results/cells."""
        lr = number(self.learning_rate)
        return f"{self.model}/{self.data}/{self.method}-{self.quant}-r{self.rank}-lr{lr}-s{self.seed}"

    @property
    def start(self) -> str:
        """The folder of the cell's initial factors below results/init; shared between cells."""
        seen = f"-{self.seen}" if self.seen else ""
        return f"{self.model}/{self.method}-{self.quant}-r{self.rank}-s{self.start_seed}{seen}"


def by_seed(cells: Iterable[Cell]) -> list[list[Cell]]:
    """The cells that differ in their seed only, together, in the order of seeds."""
    groups: dict[tuple[object, ...], list[Cell]] = {}
    for c in cells:
        groups.setdefault((c.model, c.data, c.method, c.quant, c.rank, c.learning_rate), []).append(c)
    return [sorted(some, key=lambda cell: cell.seed) for some in groups.values()]


def number(value: float) -> str:
    """A number in a path: short where that is exact."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)
