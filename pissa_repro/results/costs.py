"""What the cells of a table's row have cost, and how far they moved the weights: from the records of their stages."""

import functools
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pissa_repro.plan.cells import Cell
from pissa_repro.plan.sweep import Sweep
from pissa_repro.results.records import Fetched, checked
from pissa_repro.runtime import paths
from pissa_repro.runtime.record_types import Memory, Provenance, TrainRecord

GIB = 2**30


class Costs:
    """Reads the records, each once, and only where they were made from this config, these weights and these rows."""

    def __init__(self, sweep: Sweep, results: Path):
        self.sweep, self.results, self.fetched = sweep, results, Fetched(results)
        self.training = functools.cache(self._training)

    def _training(self, cell: Cell) -> TrainRecord:
        path = paths.cell(cell.name, self.results).train
        record: TrainRecord = checked(path, self.sweep.train_spec(cell))
        self.fetched.compare(path, record, cell.model, cell.data)
        return record

    def update(self, cells: Sequence[Cell]) -> float | None:
        """The mean over seeds of the size of the update, |dW| / |W|; None where a record does not have it."""
        sizes = [self.training(cell).get("update") for cell in cells]
        return statistics.fmean(known) if (known := [one for one in sizes if one is not None]) == sizes else None

    def step(self, cells: Sequence[Cell]) -> float:
        """Seconds of a training step, the median over seeds."""
        return statistics.median(self._step(cell) for cell in cells)

    def _step(self, cell: Cell) -> float:
        record = self.training(cell)
        return record["train_seconds"] / record["steps"]

    def step_ratios(self, cells: Sequence[Cell], others: Sequence[Cell]) -> list[float]:
        """How many times the step of the other cells a step takes, by seed.

        Empty where they are not alike but for the method: other seeds, steps or batches, or another machine.
        """
        if [cell.seed for cell in cells] != [cell.seed for cell in others]:
            return []
        pairs = list(zip(cells, others, strict=True))
        if any(self._alike(one) != self._alike(other) for one, other in pairs):
            return []
        return [self._step(one) / self._step(other) for one, other in pairs]

    def _alike(self, cell: Cell) -> tuple[Any, ...]:
        record = self.training(cell)
        how = [record.get(key) for key in ("sharding", "gradient_checkpointing", "compile")]
        return record["steps"], record["batch"], *how, record["provenance"]["hardware"]

    def start(self, cells: Sequence[Cell]) -> dict[str, float]:
        """Seconds and peak memory of making the factors, and of what they have to know of data, where there is any.

        Means over the starts of the seeds, peaks over all; the statistics of a start are summed.
        """
        made = {cell.start: self._start(cell) for cell in cells if self.sweep.has_factors(cell)}
        known = {name: self._statistics(name) for cell in cells for name in self.sweep.known(cell)}
        return _cost("start", made.values(), statistics.fmean) | _cost("statistics", known.values(), sum)

    def _start(self, cell: Cell) -> Provenance:
        path = paths.start_record(cell.start, self.results)
        record = checked(path, self.sweep.init_spec(cell) or {})
        self.fetched.compare(path, record, cell.model)
        origin: Provenance = record["provenance"]
        return origin

    def _statistics(self, name: str) -> Provenance:
        path, one = paths.statistics_record(name, self.results), self.sweep.statistic(name)
        record = checked(path, one.spec)
        self.fetched.compare(path, record, one.model, one.data)
        origin: Provenance = record["provenance"]
        return origin


def _cost(name: str, origins: Any, total: Any) -> dict[str, float]:
    if not (found := list(origins)):
        return {}
    return {f"{name}_seconds": total(one["seconds"] for one in found), f"{name}_memory_gib": max(map(peak, found))}


def peak(memory: Memory) -> float:
    """Peak GiB of a process: of the GPU's memory, where it had one."""
    return (memory["gpu_memory_bytes"] or memory["memory_bytes"]) / GIB
