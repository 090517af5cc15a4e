"""The rows of a table in the making: the cells of each, their scores by seed and item, and its reference."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pissa_repro import methods
from pissa_repro.plan.adopted import Adopted
from pissa_repro.plan.cells import Cell, Point, by_seed
from pissa_repro.plan.sweep import Sweep
from pissa_repro.plan.validation import VALIDATION
from pissa_repro.results.measure import Measure, measure_of
from pissa_repro.results.scored import keys, read_items
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError
from pissa_repro.tasks import METRIC

Scores = dict[tuple[str, str, str | None], dict[str, str]]  # the rows of scores.csv by (cell, task, metric)


@dataclass(frozen=True, eq=False)
class Scored:
    """The scores of one row in the making."""

    task: str
    facts: list[dict[str, str]]  # the rows of scores.csv with the paper's metric
    second: list[float]  # the second metric over the seeds as scored; empty unless every cell has it
    scores: np.ndarray  # (seeds, items) as scored: fractions of 1 where the unit is percent; NaN where one diverged
    measure: Measure

    @property
    def lost(self) -> list[bool]:
        """For each seed whether its training diverged."""
        return [_lost(fact) for fact in self.facts]

    @property
    def diverged(self) -> int:
        """How many of the trainings diverged: then there is no mean, for one over the others is of the lucky ones."""
        return sum(self.lost)

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
class Other(Scored):
    """One row of what was not trained here: the base as it is, or what was trained elsewhere."""

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


def lines(
    sweep: Sweep, rows: Scores, results: Path, tasks: Sequence[str] | None = None
) -> tuple[list[Line], list[Other]]:
    """The rows of the sweep's table in the config's order, and those of what was not trained here, bases first.

    tasks: of these only; None for all that are swept. Raises UserError when a cell has no score, its samples do not
    give its score, or two cells of a task were scored on different items.
    """
    made: list[Line] = []
    others: list[Other] = []
    groups = by_seed(sweep.cells.values())
    for task in sweep.config["sweep"]["tasks"] if tasks is None else tasks:
        read = Reader(task, measure_of(sweep.config["tasks"][task]["task"]), rows, results)
        made += [Line(**read(cells), cells=cells) for cells in groups]
        others += [Other(**read([one]), adopted=one) for one in sweep.others.values()]
    return made, others


class Reader:
    """Reads the scores of the cells of a task, which must all be of the same items."""

    def __init__(self, task: str, shown: Measure, rows: Scores, results: Path):
        self.task, self.shown, self.rows, self.results = task, shown, rows, results
        self.first: Items | None = None  # of the first cell: all others must have the same

    def __call__(self, cells: Sequence[Cell | Adopted]) -> dict[str, Any]:
        """The fields of Scored, over cells that differ in their seed only."""
        facts = [_fact(self.rows, cell, self.task) for cell in cells]
        items = {
            cell.name: _items(self.results, cell, self.task)
            for cell, fact in zip(cells, facts, strict=True)
            if not _lost(fact)
        }
        self.first = self.first or next(iter(items.values()), None)
        for fact in facts:
            if self.first and fact["cell"] in items:
                _check(self.task, items[fact["cell"]], self.first, float(fact["value"]))
        nothing = np.full(len(self.first.scores) if self.first else 0, np.nan)
        scores = np.stack([items[cell.name].scores if cell.name in items else nothing for cell in cells])
        second = _second(self.rows, cells, self.task, self.shown)
        return {"task": self.task, "facts": facts, "second": second, "scores": scores, "measure": self.shown}


def _fact(rows: Scores, cell: Cell | Adopted, task: str) -> dict[str, str]:
    if (cell.name, task, METRIC) not in rows:
        raise UserError(f"scores: no '{METRIC}' score of {cell.name} on {task}. Delete the scores file and run again.")
    return rows[cell.name, task, METRIC]


def _lost(fact: dict[str, str]) -> bool:
    """Whether a row of scores.csv is of a training that diverged; tables of before this was recorded have no column."""
    return bool(fact.get("diverged"))


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

    beside = [other for other in others if other.task == line.task]
    fit = reference_cells(sweep, line.first, [other.first for other in beside], same_rate)
    return [other for other in beside if other.first in fit]


def reference_cells(sweep: Sweep, cell: Cell, others: Sequence[Cell], same_rate: bool = True) -> list[Cell]:
    """The same of cells: a cell of each row, and that of the row that is to be compared."""

    def beside(other: Cell) -> bool:
        alike = (other.model, other.data, other.quant) == (cell.model, cell.data, cell.quant)
        return alike and (not same_rate or other.learning_rate == cell.learning_rate)

    fit = [other for other in others if beside(other) and as_it_is(sweep, other)]
    rank = cell.rank if sweep.has_factors(cell) else max((other.rank for other in fit), default=0)
    return [other for other in fit if other.rank == rank]


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


def place(line: Line) -> Point:
    """Where a row stands, whatever its rate."""
    cell = line.first
    return Point(cell.model, cell.data, cell.method, cell.quant, cell.rank, 0, 0)


def chosen_rates(rows: list[Line]) -> dict[tuple[str, Point], float]:
    """The learning rate that is best on validation items: by the task it is chosen for, and the place of the rows.

    Only rows of validation tasks are looked at. Best is the highest mean over seeds and items, or the lowest where
    lower is better; of equals, the smallest rate. A rate at which a seed diverged is not chosen.
    """
    best: dict[tuple[str, Point], tuple[float, float]] = {}
    asked = [line for line in rows if line.task.endswith(VALIDATION) and not line.diverged]
    for line in sorted(asked, key=lambda line: line.first.learning_rate):
        here, value = (line.task.removesuffix(VALIDATION), place(line)), line.scores.mean()
        if here not in best or line.measure.better(value, best[here][0]):
            best[here] = value, line.first.learning_rate
    return {here: rate for here, (_, rate) in best.items()}


def at_best_rate(rows: list[Line]) -> list[Line]:
    """Of the rows that differ in the learning rate only, the one whose rate is chosen on validation items.

    Never chosen on the test items: a task without a swept validation task has no row here.
    """
    rates = chosen_rates(rows)
    return [line for line in rows if rates.get((line.task, place(line))) == line.first.learning_rate]
