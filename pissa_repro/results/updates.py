"""How far the cells of a row have moved each module: from the records of the study `updates`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pissa_repro.model.naming import types
from pissa_repro.plan import studies
from pissa_repro.plan.cells import Cell, by_seed
from pissa_repro.plan.sweep import Sweep
from pissa_repro.results.records import Fetched, checked
from pissa_repro.runtime import paths


@dataclass(frozen=True, eq=False)
class Moved:
    """The cells of one row, one for each seed, and the facts of every module by seed: {module: [facts]}.

    diverged: how many of the trainings did; then there are no facts, for a mean would be of the others.
    """

    cells: list[Cell]
    modules: dict[str, list[dict[str, Any]]]
    diverged: int = 0

    @property
    def first(self) -> Cell:
        """A cell to ask for everything that the seeds share."""
        return self.cells[0]

    def by_type(self) -> dict[str, list[dict[str, Any]]]:
        """The facts of all modules and seeds by the projection's type."""
        found: dict[str, list[dict[str, Any]]] = {}
        for module, kind in types(self.modules).items():
            found.setdefault(kind, []).extend(self.modules[module])
        return found

    def spectrum(self) -> np.ndarray:
        """The largest singular values of dW over |W|, the mean over modules and seeds, as many as all have kept."""
        rows = [facts["values"] for some in self.modules.values() for facts in some]
        fewest = min(map(len, rows))
        return np.array([row[:fewest] for row in rows]).mean(axis=0)


def moved(sweep: Sweep, results: Path) -> Iterator[Moved]:
    """The rows of the sweep that the study measures, in the config's order.

    Raises UserError for a record that is missing, or of another config, other weights or another training.
    """
    fetched = Fetched(results)
    for cells in by_seed(studies.moved(sweep)):
        read = [_read(sweep, cell, results, fetched) for cell in cells]
        lost = read.count(None)
        known = [modules for modules in read if modules is not None] if not lost else []
        names = known[0] if known else {}
        yield Moved(cells, {module: [one[module] for one in known] for module in names}, lost)


def _read(sweep: Sweep, cell: Cell, results: Path, fetched: Fetched) -> dict[str, dict[str, Any]] | None:
    """The facts of a cell by module; None where its training diverged."""
    home = paths.cell(cell.name, results)
    record = checked(home.updates, studies.updates_spec(sweep, cell))
    fetched.compare(home.updates, record, cell.model)
    fetched.compare_trained(home.updates, record, home.train)
    modules: dict[str, dict[str, Any]] | None = None if "diverged" in record else record["modules"]
    return modules
