"""The rows of a table in the making: the cells of each, their scores by seed and item, and its reference."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pissa_repro import methods
from pissa_repro.plan.adopted import Adopted
from pissa_repro.plan.cells import Cell, Point
from pissa_repro.plan.sweep import Sweep
from pissa_repro.results.measure import Measure, measure_of
from pissa_repro.results.scored import keys, read_items
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError
from pissa_repro.tasks import METRIC

Scores = dict[tuple[str, str, str | None], dict[str, str]]  # the rows of scores.csv by (cell, task, metric)
VALIDATION = "-validation"  # the swept task <task>-validation may choose the learning rate for <task>


@dataclass(frozen=True, eq=False)
class Scored:
    """The scores of one row in the making."""

    task: str
    facts: list[dict[str, str]]  # the rows of scores.csv with the paper's metric
    second: list[float]  # the second metric over the seeds as scored; empty unless every cell has it
    scores: np.ndarray  # (seeds, items) as scored: fractions of 1 where the unit is percent
    measure: Measure

    def numbers(self, column: str) -> list[float]:
        """A column of scores.csv over the seeds, without empty values."""
        return [float(facts[column]) for facts in self.facts if facts[column] != ""]


@dataclass(frozen=True, eq=False)
class Line(Scored):
    """One row of the sweep's cells: one per seed."""

    cells: list[Cell]

    @property
    def first(self) -> Cell:
        """A cell to ask for everything that the seeds share."""
        return self.cells[0]


@dataclass(frozen=True, eq=False)
class Elsewhere(Scored):
    """One row of what was trained elsewhere."""

    adopted: Adopted


@dataclass(frozen=True, eq=False)
class Items:
    """The items of a cell on a task: what tells each from the others, and its score."""

    cell: str
    path: Path
    keys: list[str]
    scores: np.ndarray


def read_scores(path: Path) -> Scores:
    """The rows of scores.csv by (cell, task, metric)."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return {(row["cell"], row["task"], row["metric"]): row for row in csv.DictReader(file)}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. Run snakemake to make it.") from None


def lines(sweep: Sweep, rows: Scores, results: Path) -> tuple[list[Line], list[Elsewhere]]:
    """The rows of the sweep's table in the config's order, and those of what was trained elsewhere.

    Raises UserError when a cell has no score, its samples do not give its score, or two cells of a
    task were scored on different items.
    """
    made: list[Line] = []
    elsewhere: list[Elsewhere] = []
    groups = by_seed(sweep.cells.values())
    for task in sweep.config["sweep"]["tasks"]:
        read = Reader(task, measure_of(sweep.config["tasks"][task]["task"]), rows, results)
        made += [Line(**read(cells), cells=cells) for cells in groups]
        elsewhere += [Elsewhere(**read([one]), adopted=one) for one in sweep.adopted.values()]
    return made, elsewhere


class Reader:
    """Reads the scores of the cells of a task, which must all be of the same items."""

    def __init__(self, task: str, shown: Measure, rows: Scores, results: Path):
        self.task, self.shown, self.rows, self.results = task, shown, rows, results
        self.first: Items | None = None  # of the first cell: all others must have the same

    def __call__(self, cells: Sequence[Cell | Adopted]) -> dict[str, Any]:
        """The fields of Scored, over cells that differ in their seed only."""
        facts = [_fact(self.rows, cell, self.task) for cell in cells]
        items = [_items(self.results, cell, self.task) for cell in cells]
        self.first = self.first or items[0]
        for its, fact in zip(items, facts, strict=True):
            _check(self.task, its, self.first, float(fact["value"]))
        second, scores = _second(self.rows, cells, self.task, self.shown), np.stack([one.scores for one in items])
        return {"task": self.task, "facts": facts, "second": second, "scores": scores, "measure": self.shown}


def by_seed(cells: Iterable[Cell]) -> list[list[Cell]]:
    """The cells that differ in their seed only, together, in the order of seeds."""
    groups: dict[tuple[object, ...], list[Cell]] = {}
    for c in cells:
        groups.setdefault((c.model, c.data, c.method, c.quant, c.rank, c.learning_rate), []).append(c)
    return [sorted(some, key=lambda cell: cell.seed) for some in groups.values()]


def _fact(rows: Scores, cell: Cell | Adopted, task: str) -> dict[str, str]:
    if (cell.name, task, METRIC) not in rows:
        raise UserError(f"scores: no '{METRIC}' score of {cell.name} on {task}. Delete the scores file and run again.")
    return rows[cell.name, task, METRIC]


def _second(rows: Scores, cells: Sequence[Cell | Adopted], task: str, shown: Measure) -> list[float]:
    """The second metric of the cells; empty unless every cell has it."""
    values = [float(rows[key]["value"]) for c in cells if (key := (c.name, task, shown.second)) in rows]
    return values if len(values) == len(cells) else []


def _items(results: Path, cell: Cell | Adopted, task: str) -> Items:
    path = paths.cell(cell.name, results).samples(task)
    samples, scores = read_items(path)
    return Items(cell.name, path, keys(samples), scores)


def _check(task: str, items: Items, first: Items, value: float) -> None:
    """Raise UserError unless the items are those of the first cell and their mean is the score."""
    if items.keys != first.keys:
        raise UserError(
            f"{task}: {items.cell} ({len(items.keys)} items) and {first.cell} ({len(first.keys)}) were scored on "
            "different items."
        )
    if not len(items.scores) or abs(items.scores.mean() - value) > 1e-9:
        raise UserError(f"{items.path}: its samples do not give the score {value} of the scores file. Make both again.")


def references(sweep: Sweep, line: Line, others: list[Line], same_rate: bool = True) -> list[Line]:
    """The rows of the reference method as it is that stand beside a row, itself among them. One: the reference.

    Same model, training data, task, quantization, rank and (with same_rate) learning rate. A method
    without factors has no rank, and stands beside the largest rank among them.
    """

    def beside(row: Line) -> bool:
        a, b = line.first, row.first
        alike = row.task == line.task and (a.model, a.data, a.quant) == (b.model, b.data, b.quant)
        return alike and (not same_rate or a.learning_rate == b.learning_rate)

    fit = [other for other in others if beside(other) and as_it_is(sweep, other.first)]
    rank = line.first.rank if sweep.has_factors(line.first) else max((row.first.rank for row in fit), default=0)
    return [other for other in fit if other.first.rank == rank]


def as_it_is(sweep: Sweep, cell: Cell) -> bool:
    """Whether a cell is of the reference method with default options, no `lora:` fields and no override of its own."""
    definition = sweep.definition(cell.method)
    init, place = definition["init"], f"config.methods.{cell.method}"
    given, default = (
        (methods.options(init, cell.quant, some, place), methods.training_options(init, some))
        for some in (definition["options"], {})
    )
    changed = given != default or definition["lora"] or cell.treated_alone
    return methods.load(init).REFERENCE and not changed


def at_best_rate(rows: list[Line]) -> list[Line]:
    """Of the rows that differ in the learning rate only, the one that is best on validation items.

    Best is the highest mean, or the lowest where lower is better; of equals, the smallest rate.
    Never chosen on the test items: a task without a swept validation task has no row here.
    """

    def at(line: Line, task: str) -> tuple[str, Point]:  # of all seeds
        cell = line.first
        return task, Point(cell.model, cell.data, cell.method, cell.quant, cell.rank, cell.learning_rate, 0)

    means = {at(line, line.task): line.scores.mean() for line in rows}
    best: dict[tuple[str, Point], tuple[float, Line]] = {}
    for line in sorted(rows, key=lambda line: line.first.learning_rate):
        task, point = at(line, line.task)
        here = task, point._replace(learning_rate=0)
        value = means.get((task + VALIDATION, point))
        if value is not None and (here not in best or line.measure.better(value, best[here][0])):
            best[here] = (value, line)
    chosen = [line for _, line in best.values()]
    return [line for line in rows if line in chosen]
