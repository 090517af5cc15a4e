"""What a comparison of two scored cells holds (pairs.py makes it, `pissa compare` shows and writes it). Types only."""

from typing import TypedDict


class Side(TypedDict):
    """One side over all its seeds. value: the mean over items and seeds; recorded: the same by the records."""

    display: str
    records: list[str]
    seeds: list[int | None]
    value: float
    recorded: float
    stderr_items: float | None
    std_seeds: float | None


class Difference(TypedDict):
    """A minus B."""

    mean: float
    low: float
    high: float
    resampled: str
    p: float
    verdict: str


class SeedPair(TypedDict):
    """Both sides at one seed (`seed` has two where they differ)."""

    seed: list[int | None]
    a: float
    b: float
    higher_in_a: list[int]
    higher_in_b: list[int]
    mcnemar_p: float | None
    same_text: int | None
    rescored: int | None


class Example(TypedDict):
    """An item on which the sides differ; scores and texts of the side that is shown first, and of the other."""

    id: int
    seeds: list[int | None]
    scores: list[float]
    prompt: str
    target: str
    generated: list[str | None]


class Comparison(TypedDict):
    """What pairs.facts says of two scored cells."""

    task: str
    metric: str
    binary: bool
    unit: str
    higher_is_better: bool | None
    items: int
    only_one_side: dict[str, list[int | None]]
    a: Side
    b: Side
    difference: Difference
    by_seed: list[SeedPair]
    differ_in: dict[str, list[str]]
    uncommitted_changes: list[bool]
    examples: dict[str, list[Example]]
