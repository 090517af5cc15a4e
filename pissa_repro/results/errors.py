"""The errors of starts that data weighs, and the losses after the trainings from them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pissa_repro.plan import studies
from pissa_repro.plan.cells import Cell
from pissa_repro.plan.sweep import Sweep
from pissa_repro.results.records import Fetched, checked
from pissa_repro.runtime import paths

SUMMED = ("nuclear", "frobenius", "weighted")  # over modules, each with what plain quantization leaves beside it
KINDS = (*SUMMED, "divergence")


@dataclass(frozen=True)
class Line:
    """Cells that differ in their seed only. errors: the mean over their starts, by kind; losses: of the trainings.

    reductions: of the summed kinds against plain quantization, in percent. losses: empty where they are not asked for;
    else of one data and learning rate.
    """

    cells: list[Cell]
    errors: dict[str, float]
    reductions: dict[str, float]
    losses: list[float]

    @property
    def first(self) -> Cell:
        """A cell to ask for everything that the seeds share."""
        return self.cells[0]

    @property
    def diverged(self) -> int:
        """How many of the trainings diverged; their losses are NaN."""
        return sum(map(math.isnan, self.losses))


def lines(sweep: Sweep, results: Path, trained: bool) -> Iterator[Line]:
    """The lines in the config's order; trained: with their losses.

    Raises UserError for a record that is missing, or of another config or data.
    """
    fetched = Fetched(results)
    groups: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in studies.weighed(sweep):
        more = (cell.data, cell.learning_rate) if trained else ()
        groups.setdefault((cell.model, cell.method, cell.quant, cell.rank, cell.seen, *more), []).append(cell)
    for cells in groups.values():
        starts = list({cell.start: cell for cell in cells}.values())
        records = [_record(sweep, cell, results, fetched) for cell in starts]
        errors = {kind: _mean([_error(record, kind) for record in records]) for kind in KINDS}
        plain = {kind: records[0]["total"][f"{kind}_plain"] for kind in SUMMED}
        reductions = {kind: 100 * (1 - errors[kind] / value) for kind, value in plain.items() if value}
        losses = [_loss(sweep, cell, results, fetched) for cell in cells] if trained else []
        yield Line(cells, errors, reductions, losses)


def _record(sweep: Sweep, cell: Cell, results: Path, fetched: Fetched) -> dict[str, Any]:
    path, weighing = paths.start_error(cell.start, results), sweep.weighing(cell)
    record: dict[str, Any] = checked(path, sweep.quant_error_spec(cell))
    fetched.compare(path, record, cell.model, weighing.data if weighing else None)
    return record


def _error(record: dict[str, Any], kind: str) -> float:
    value: float = record["total"][kind] if kind in SUMMED else record[kind]
    return value


def _loss(sweep: Sweep, cell: Cell, results: Path, fetched: Fetched) -> float:
    path = paths.cell(cell.name, results).train
    record = checked(path, sweep.train_spec(cell))
    fetched.compare(path, record, cell.model, cell.data)
    loss: float | None = record["final_loss"]
    return math.nan if loss is None else loss  # it diverged


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
