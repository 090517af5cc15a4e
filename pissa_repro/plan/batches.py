"""Which cells and tasks share one process and one launch of an engine. Imports no torch, as sweep.py."""

import itertools
from dataclasses import dataclass
from functools import cached_property

from pissa_repro.plan.adopted import Adopted
from pissa_repro.plan.cells import Cell
from pissa_repro.plan.sweep import STAGE_VERSION, Sweep
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import unknown
from pissa_repro.runtime.specs import BatchSpec


@dataclass(frozen=True)
class Batch:
    """Cells of one model, and the tasks that they are all generated on by one launch of an engine."""

    model: str
    backend: str
    cells: list[str]
    tasks: list[str]


class Batches:
    """The batches of a sweep: all methods of a point (model, data, rank, rate, seed) together.

    The bases, and what was trained elsewhere, have batches of their own, for each model and data.
    """

    def __init__(self, sweep: Sweep):
        self.sweep = sweep

    @cached_property
    def by_name(self) -> dict[str, Batch]:
        """Every batch. It keeps its name when the sweep grows, so that what was scored is not scored again."""
        batches, size = {}, self.sweep.config["scoring"]["cells_per_engine"]
        for point, cells in self._points().items():
            for number, first in enumerate(range(0, len(cells), size)):
                some = [cell.name for cell in cells[first : first + size]]
                for (backend, dtype), tasks in self._engines().items():
                    batches[f"{point}-{backend}-{dtype}-{number}"] = Batch(cells[0].model, backend, some, tasks)
        return batches

    def _points(self) -> dict[str, list[Cell | Adopted]]:
        """The cells by the first point of the sweep that they are at: full fine-tuning has no rank of its own."""
        first = {cell.name: point for point, cell in reversed(self.sweep.points)}
        points: dict[str, list[Cell | Adopted]] = {}
        for name, cell in self.sweep.cells.items():
            points.setdefault(first[name], []).append(cell)
        for one in self.sweep.others.values():
            points.setdefault(f"{one.model}/{one.data}/{one.batch}", []).append(one)
        return points

    def _engines(self) -> dict[tuple[str, str], list[str]]:
        """The swept tasks by back-end and dtype."""
        engines: dict[tuple[str, str], list[str]] = {}
        for task in self.sweep.config["sweep"]["tasks"]:
            asked = self.sweep.asked(task)
            engines.setdefault((asked["backend"], asked["dtype"]), []).append(task)
        return engines

    @cached_property
    def _names(self) -> dict[tuple[str, str], str]:
        return {
            (cell, task): name for name, batch in self.by_name.items() for cell in batch.cells for task in batch.tasks
        }

    def named(self, name: str) -> Batch:
        """The batch of that name. Raises UserError with the nearest known name."""
        if name not in self.by_name:
            raise unknown("batch", name, self.by_name, str(paths.batches()))
        return self.by_name[name]

    def name_of(self, cell: str, task: str) -> str:
        """The name of the batch that generates a swept cell on a swept task."""
        tasks = self.sweep.config["sweep"]["tasks"]
        if task not in tasks:
            raise unknown("task", task, tasks, "config.sweep.tasks")
        return self._names[self.sweep.scored(cell).name, task]

    def spec(self, name: str) -> BatchSpec:
        """Spec of a batch: the train spec and start of each cell, what each task asks and the name of its rows."""
        batch, sweep = self.named(name), self.sweep
        cells = [sweep.scored(name) for name in batch.cells]
        return {
            "version": STAGE_VERSION["generate"],
            "backend": batch.backend,
            "cells": {cell.name: {"train": sweep.trained_spec(cell), "start": sweep.start_of(cell)} for cell in cells},
            "tasks": {
                task: {"spec": sweep.asked(task), "rows": sweep.config["tasks"][task]["dataset"]}
                for task in batch.tasks
            },
        }

    def pairs(self) -> list[tuple[str, str]]:
        """The swept tasks, two by two, that differ in their back-end and in nothing else."""
        asked = [(task, self.sweep.asked(task)) for task in self.sweep.config["sweep"]["tasks"]]
        both = itertools.combinations(asked, 2)
        return [(first, second) for (first, a), (second, b) in both if a != b and {**a, "backend": b["backend"]} == b]
