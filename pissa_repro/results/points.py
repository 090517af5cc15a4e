"""What of a sweep's cells is there: the final loss and the scores of each, read from their own records.

An exhibit is drawn from what there is, and says which cells are missing. A record that is there and was made from
another config, other weights or rows stops it all the same.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pissa_repro.plan.cells import Cell
from pissa_repro.plan.sweep import Sweep
from pissa_repro.results.costs import Costs
from pissa_repro.results.measure import measure_of
from pissa_repro.results.records import checked
from pissa_repro.results.rows import Line, by_seed, lines
from pissa_repro.results.table import rows
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError
from pissa_repro.tasks import METRIC

if TYPE_CHECKING:
    from pissa_repro.runtime.record_types import ScoreRecord

SHOWN = 4  # missing cells that a caption names


@dataclass(frozen=True)
class Point:
    """What several seeds of one setting reach: their values, in the unit of the measure, and their error over items.

    stderr: of one run, the mean over seeds; None where it is not known, as of a loss. items: 0 where all diverged.
    """

    cells: list[Cell]
    values: np.ndarray  # (seeds,); NaN of a training that diverged, so that there is no mean
    stderr: float | None = None
    items: int = 0

    @property
    def diverged(self) -> int:
        """How many of the trainings diverged."""
        return int(np.isnan(self.values).sum())

    @property
    def mean(self) -> float | None:
        """The mean over the seeds; None where a training diverged."""
        return None if self.diverged else float(self.values.mean())

    @property
    def spread(self) -> float | None:
        """Standard deviation over the seeds; of one seed the standard error over items, where that is known."""
        return float(self.values.std(ddof=1)) if len(self.values) > 1 else self.stderr


def there(sweep: Sweep, files: Iterable[str], results: Path) -> tuple[list[Cell], list[Cell]]:
    """The cells that have all these files in their folders, and those that have not. Raises UserError without any."""
    names = list(files)
    found = {name: all((paths.cell(name, results).folder / file).is_file() for file in names) for name in sweep.cells}
    if not any(found.values()):
        raise UserError(
            f"{paths.cells(results)}: no such record of any of {len(found)} cells ({', '.join(names)}). "
            "Run snakemake to make them."
        )
    return [sweep.cells[n] for n, has in found.items() if has], [sweep.cells[n] for n, has in found.items() if not has]


def having(cells: list[Cell], task: str, results: Path) -> list[Cell]:
    """Those of the cells that have a score on a task."""
    return [cell for cell in cells if paths.cell(cell.name, results).score(task).is_file()]


def spread_words(seeds: int) -> str:
    """What a caption says of the means of points and of `Point.spread`, which is drawn as a line through them."""
    if seeds > 1:
        return f"mean of {seeds} seeds, lines: their standard deviation"
    return "one seed; lines through scores: standard error over the test items"


def missing(sweep: Sweep, cells: list[Cell]) -> str:
    """What a caption says of cells without records; nothing where there are none."""
    words = [f"{_setting(sweep, cell)} seed {cell.seed} on {cell.model}" for cell in dict.fromkeys(cells)]
    more = f" and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
    return f"missing, without a record: {', '.join(words[:SHOWN])}{more}" if words else ""


def diverged(sweep: Sweep, points: Iterable[Point]) -> str:
    """What a caption says of points that have no mean, since a training diverged; nothing where there are none."""
    return without_mean(
        f"{_setting(sweep, point.cells[0])} ({lost} of {len(point.values)} seeds)"
        for point in points
        if (lost := point.diverged)
    )


def _setting(sweep: Sweep, cell: Cell) -> str:
    """A cell's method, its rank, and its rate where several are swept."""
    rank = f" rank {cell.rank}" if cell.rank else ""
    rate = f" rate {cell.learning_rate:g}" if len(sweep.config["sweep"]["learning_rates"]) > 1 else ""
    return sweep.display(cell) + rank + rate


def without_mean(words: Iterable[str]) -> str:
    """The same of settings in words, each with how many of its seeds diverged."""
    known = ", ".join(dict.fromkeys(words))
    return f"diverged, without a mean: {known}" if known else ""


def losses(sweep: Sweep, cells: list[Cell], results: Path) -> list[Point]:
    """The final loss of each setting over its seeds. Raises UserError as `Costs`, and for one that is not finite."""
    costs = Costs(sweep, results)
    found = []
    for some in by_seed(cells):
        values = [_known(costs.training(cell)["final_loss"], paths.cell(cell.name, results).train) for cell in some]
        found.append(Point(some, np.array(values)))
    return found


def scores(sweep: Sweep, cells: list[Cell], task: str, results: Path) -> list[Point]:
    """The score of each setting on a task over its seeds, in the task's unit. Raises UserError like `losses`."""
    costs, shown = Costs(sweep, results), measure_of(sweep.config["tasks"][task]["task"])
    test, found = sweep.config["tasks"][task]["dataset"], []
    for some in by_seed(cells):
        facts: list[Any] = []
        for cell in some:
            path = paths.cell(cell.name, results).score(task)
            record: ScoreRecord = checked(path, sweep.evaluate_spec(cell, task))
            costs.fetched.compare(path, record, cell.model, test)
            fact = {"value": None, "stderr": None, "n": 0} if "diverged" in record else record["metrics"][METRIC]
            facts.append({**fact, "value": _known(fact["value"], path)})
        errors = [fact["stderr"] for fact in facts if fact["stderr"] is not None]
        stderr = shown.scale * float(np.mean(errors)) if errors else None
        values, items = shown.scale * np.array([fact["value"] for fact in facts]), max(fact["n"] for fact in facts)
        found.append(Point(some, values, stderr, items))
    return found


def scored_lines(sweep: Sweep, results: Path) -> Iterator[tuple[Sweep, list[Line], list[Cell]]]:
    """For each task its part of the sweep, the rows of the cells that were scored on it, and the cells that were not.

    Raises UserError where none was scored on any task, and as `rows.lines` does.
    """
    tasks, empty = sweep.config["sweep"]["tasks"], []
    for task in tasks:
        part = sweep.narrowed(tasks=[task]).only(sweep.cells)
        try:
            found, without = there(part, ("train.json", f"eval/{task}.json", f"eval/{task}{paths.SAMPLES}"), results)
        except UserError as error:
            empty.append(error)
            continue
        part = part.only({cell.name for cell in found})
        kept = {(row["cell"], row["task"], row["metric"]): _as_text(row) for row in rows(part, results)}
        yield part, lines(part, kept, results)[0], without
    if len(empty) == len(tasks):
        raise empty[0]


def _as_text(row: dict[str, Any]) -> dict[str, str]:
    """A row as it is read from scores.csv."""
    return {key: "" if value is None else str(value) for key, value in row.items()}


def _known(value: float | None, path: Path) -> float:
    """A value of a record; NaN where its training diverged."""
    if value is None:
        return math.nan
    if not math.isfinite(value):
        raise UserError(f"{path}: holds {value}, which no figure or table can show. Delete it and run again.")
    return value
