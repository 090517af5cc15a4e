"""What figures are drawn from: the curves and bars of a sweep, read from its records.

A missing record, a missing row or a value that is no number raises UserError: no figure has holes. A training that
diverged has none where its numbers end, which are NaN here.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy
import pandas

from pissa_repro.plan.cells import Cell
from pissa_repro.results.measure import Measure
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError, unknown
from pissa_repro.tasks import METRIC


@dataclass(frozen=True)
class Curve:
    """One value over training: steps (n,), and the values of every seed (seeds, n); NaN from where a seed diverged."""

    steps: numpy.ndarray
    values: numpy.ndarray

    @property
    def diverged(self) -> int:
        """How many seeds diverged."""
        return int(numpy.isnan(self.values).any(axis=1).sum())

    def first(self, count: int) -> "Curve":
        """The first steps of the curve."""
        return Curve(self.steps[:count], self.values[:, :count])

    def blocks(self, size: int) -> "Curve":
        """Means over each `size` steps in a row; the last block may be shorter."""
        firsts = numpy.arange(0, len(self.steps), size)
        sizes = numpy.diff(numpy.append(firsts, len(self.steps)))
        steps, values = (numpy.add.reduceat(part, firsts, axis=-1) / sizes for part in (self.steps, self.values))
        return Curve(steps, values)


def read_table(path: Path, columns: tuple[str, ...]) -> pandas.DataFrame:
    """Read a CSV record. Raises UserError when it is missing, damaged, empty or lacks a column."""
    try:
        table = pandas.read_csv(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such record. Run snakemake to make it.") from None
    except (pandas.errors.ParserError, pandas.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a complete record ({error}). Delete it and run again.") from None
    for column in columns:
        if column not in table:
            raise unknown("column", column, table.columns, str(path))
    if table.empty:
        raise UserError(f"{path}: has no rows. Delete it and run again.")
    return table


def numbers(table: pandas.DataFrame, column: str, path: Path) -> numpy.ndarray:
    """A column as finite floats (n,). Raises UserError where a value is missing or no number."""
    values = pandas.to_numeric(table[column], errors="coerce").to_numpy(dtype=float)
    if not numpy.isfinite(values).all():
        line = table.index[~numpy.isfinite(values)][0] + 2  # after the header, counted from 1
        raise UserError(f"{path}: line {line}: '{column}' is not a finite number.")
    return values


def read_curve(results: Path, cells: list[Cell], column: str) -> Curve:
    """A column of train_steps.csv over the seeds of one method. Raises UserError if steps differ.

    Those of a training that diverged are the first steps of the others.
    """
    found = [_run(paths.cell(cell.name, results).steps, column) for cell in cells]
    steps = max((steps for steps, _ in found), key=len)
    for cell, (here, values) in zip(cells, found, strict=True):
        ended = numpy.isnan(values[-1])
        if not numpy.array_equal(here, steps[: len(here)] if ended else steps):
            path = paths.cell(cell.name, results).steps
            raise UserError(f"{path}: its steps are not those of the other seeds; no mean over seeds is possible.")
    gaps = [(0, len(steps) - len(values)) for _, values in found]
    runs = [numpy.pad(run, gap, constant_values=numpy.nan) for (_, run), gap in zip(found, gaps, strict=True)]
    return Curve(steps, numpy.stack(runs))


def _run(path: Path, column: str) -> tuple[numpy.ndarray, numpy.ndarray]:
    """The steps of one training and its values, both (n,); the last value is NaN where it diverged."""
    table = read_table(path, ("step", column))
    steps, last = numbers(table, "step", path), table.iloc[-1]
    if all(numpy.isfinite(last[name]) for name in ("loss", "grad_norm") if name in table):
        return steps, numbers(table, column, path)
    return steps, numpy.append(numbers(table.iloc[:-1], column, path), numpy.nan)


def read_scores(path: Path) -> pandas.DataFrame:
    """All scores, one row per (cell, task, metric). Raises UserError like read_table."""
    return read_table(path, ("cell", "task", "metric", "value", "stderr", "n"))


@dataclass(frozen=True)
class Bar:
    """The scores of one method in a measure's unit: one per seed, and the mean standard error over items of a run."""

    values: numpy.ndarray  # NaN of a seed that diverged
    stderr: float | None  # None for one item, and where a seed diverged
    items: int  # 0 where all seeds diverged

    @property
    def diverged(self) -> int:
        """How many seeds diverged: then there is no mean."""
        return int(numpy.isnan(self.values).sum())


def read_bar(scores: pandas.DataFrame, path: Path, cells: list[Cell], task: str, shown: Measure) -> Bar:
    """The scores of a method's cells on a task. Raises UserError unless each has exactly one."""
    here = scores[(scores["task"] == task) & (scores["metric"] == METRIC)]
    of_cells = []
    for cell in cells:
        row = here[here["cell"] == cell.name]
        if len(row) != 1:
            raise UserError(
                f"{path}: {len(row)} rows with cell {cell.name}, task {task}, metric {METRIC}; "
                "there must be one. Run snakemake to make it."
            )
        of_cells.append(row)
    rows = pandas.concat(of_cells)
    if "diverged" in rows and rows["diverged"].notna().any():
        known = rows[rows["diverged"].isna()]
        numbers(known, "value", path)
        return Bar(shown.scale * rows["value"].to_numpy(dtype=float), None, int(known["n"].max()) if len(known) else 0)
    values, items = (numbers(rows, column, path) for column in ("value", "n"))
    stderr = shown.scale * numbers(rows, "stderr", path).mean() if items[0] > 1 else None
    return Bar(shown.scale * values, stderr, int(items[0]))
