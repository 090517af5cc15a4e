"""What making an exhibit would take: cells, hours, memory and disk. Nothing is loaded, no network is asked.

By the records of such trainings where `results` has any, else by arithmetic; each line says which.
"""

import math
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pissa_repro.model.size import Size
from pissa_repro.plan import studies
from pissa_repro.plan.cells import Cell, by_seed
from pissa_repro.plan.sweep import Sweep
from pissa_repro.results.costs import GIB, peak
from pissa_repro.results.fitting import CARD, memory, trained
from pissa_repro.results.records import checked
from pissa_repro.results.sizes import size_of
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import read_json
from pissa_repro.sources.split import span

# Operations a second that a training is taken to reach: an A100 or A800 at 40 % of its 312 (bfloat16) and 19.5
# (float32) tera-operations, and a CPU core as the embedded sweep's trainings did.
SPEED = {"bfloat16": 125e12, "float32": 7.8e12}
CORE = 2.5e10
NO_MODEL = "none"  # of a study without one
ASSUMED = (
    "arithmetic: 2 operations a parameter and token forward, as many back, and as many for weights that train; rows of "
    "half of max_length tokens; 40 % of an A100's peak, or 2.5e10 operations a second of a CPU core; memory without "
    "activations"
)


@dataclass
class Item:
    """One line of a plan: cells that differ in their seed, or a study of a model. Hours, GiB: of all its cells, of one.

    None: not known. device: "GPU" or "core", whose hours they are.
    """

    model: str
    what: str
    quant: str = ""
    rank: int = 0
    data: str = ""
    rate: float | None = None
    cells: int = 0
    made: int = 0
    hours: float | None = None
    scoring: float | None = None
    memory: float | None = None
    disk: float | None = None
    device: str = "core"
    source: str = ""
    names: list[str] = field(default_factory=list)
    cell: Cell | None = None  # one of them


class Forecast:
    """Reads the records of trainings of the config's models, each once. card: GiB of a GPU."""

    def __init__(self, sweep: Sweep, results: Path, card: float = CARD):
        self.sweep, self.results, self.card = sweep, results, card
        self.records = {model: list(self._records(model)) for model in sweep.config["models"]}
        self.sizes = {model: size_of(sweep, model, results) for model in sweep.config["models"]}

    def _records(self, model: str) -> Iterator[dict[str, Any]]:
        """The whole records of trainings of a model, on the kind of machine that the config gives it."""
        on_gpu = bool(self.sweep.config["models"][model].get("gpus", 0))
        for path in sorted((paths.cells(self.results) / model).glob("*/*/train.json")):
            record = _read(path)
            if record and "train_seconds" in record and bool(record["provenance"]["hardware"].get("gpus")) == on_gpu:
                yield record

    def items(self, part: Sweep, needs: Iterable[Path]) -> list[Item]:
        """The lines for the records that an exhibit needs. part: what it shows of the sweep."""
        wanted = list(needs)
        folders = {parent for path in wanted for parent in path.parents}
        cells = [cell for cell in part.cells.values() if paths.cell(cell.name).folder in folders]
        if paths.scores() in wanted:  # one table for all that is swept
            cells = list(self.sweep.cells.values())
        measured = dict.fromkeys(p.with_suffix(".json") for p in wanted if paths.studies() in p.parents)
        return [self._training(some) for some in by_seed(cells)] + [self._study(path) for path in measured]

    def _training(self, cells: list[Cell]) -> Item:
        first, config = cells[0], self.sweep.config
        gpus = config["models"][first.model].get("gpus", 0)
        item = Item(first.model, self.sweep.display(first), first.quant, first.rank, first.data, first.learning_rate)
        item.cell, item.names, item.device = first, [cell.name for cell in cells], "GPU" if gpus else "core"
        item.cells = len(cells)
        item.made = sum(self._made(cell) for cell in cells)
        if alike := self._alike(first):
            steps = self._steps(first) or statistics.median(r["steps"] for r in alike)
            rates = [r["train_seconds"] / r["steps"] / r["batch"]["effective"] for r in alike]
            item.hours = statistics.median(rates) * steps * dict(first.train)["batch_size"] * max(1, gpus) / 3600
            item.memory = max(peak(r["provenance"]) for r in alike)
            item.source = f"measured, {len(alike)} records"
        elif size := self.sizes[first.model]:
            item.hours, item.memory = self._hours(first, size), memory(self.sweep, first, size, card=self.card)
            item.source = "arithmetic"
        else:
            item.source = "not known: its files are not here"
        if size := self.sizes[first.model]:
            kept = 2 if self.sweep.has_factors(first) else 1
            item.disk = len(cells) * trained(self.sweep, first, size) * kept * 4 / GIB
        item.hours = None if item.hours is None else item.hours * len(cells)
        item.scoring = self._scoring(cells)
        return item

    def _made(self, cell: Cell) -> bool:
        """Whether a cell was trained as the config says."""
        try:
            checked(paths.cell(cell.name, self.results).train, self.sweep.train_spec(cell))
        except UserError:
            return False
        return True

    def _alike(self, cell: Cell) -> list[dict[str, Any]]:
        """Records of trainings with factors, or without, on such a base; of the same method where there are any."""
        dtype, init = dict(cell.train)["dtype"], self.sweep.definition(cell.method)["init"]
        found = [
            r for r in self.records[cell.model]
            if (r["spec"]["init"] is not None) == self.sweep.has_factors(cell)
            and (r["spec"]["quant"], r["spec"]["settings"]["dtype"]) == (cell.quant, dtype)
        ]  # fmt: skip
        return [r for r in found if r["spec"]["method"] == init] or found

    def _steps(self, cell: Cell) -> float | None:
        """Steps of a training: as the config says, or by its rows; None where it does not say how many there are."""
        train = dict(cell.train)
        if train["steps"]:
            return float(train["steps"])
        rows = self.sweep.data_spec(cell.data)["dataset"].get("rows")
        if rows is None:
            return None
        first, stop = span(rows)
        return float(train["epochs"]) * math.ceil((stop - first) / train["batch_size"])

    def _hours(self, cell: Cell, size: Size) -> float | None:
        """Hours of a training of one seed by its operations."""
        train, steps = dict(cell.train), self._steps(cell)
        if steps is None:
            return None
        own = trained(self.sweep, cell, size)
        a_token = 4 * size.parameters + 2 * own + (4 * own if self.sweep.has_factors(cell) else 0)
        tokens = steps * train["batch_size"] * train["max_length"] / 2
        on_gpu = self.sweep.config["models"][cell.model].get("gpus", 0)
        return a_token * tokens / (SPEED[train["dtype"]] if on_gpu else CORE) / 3600

    def _scoring(self, cells: list[Cell]) -> float | None:
        """Hours of generating and scoring on all swept tasks, by scores of the model; None where one has none."""
        total = 0.0
        for task in self.sweep.config["sweep"]["tasks"]:
            places = (paths.cells(self.results) / cells[0].model).glob(f"*/*/eval/{task}.json")
            found = [r["generated"]["seconds"] for path in places if (r := _read(path)) and "generated" in r]
            if not found:
                return None
            total += len(cells) * statistics.median(found) / 3600
        return total

    def _study(self, path: Path) -> Item:
        """A line for a record of the studies, which trains none of the cells; the toy's is of no model."""
        name, defined = path.stem, self.sweep.config["models"].get(path.parent.name, {})
        model = path.parent.name if defined else NO_MODEL
        item = Item(model, f"study {name}", device="GPU" if defined.get("gpus") else "core")
        if record := _read(self.results / path.relative_to(paths.RESULTS)):
            item.hours, item.memory = record["provenance"]["seconds"] / 3600, peak(record["provenance"])
            item.source = "measured, this record"
            return item
        size, grid = self.sizes.get(model), name.removeprefix("errors_")
        if size is None or grid == name:
            item.source = "not known"
            return item
        points = len(studies.grid(self.sweep.config["studies"], grid))
        sides = ((count, out * into, min(out, into)) for (_, (out, into)), count in size.matrices.items())
        operations = (1 + points) * sum(count * (area * small + 4 * small**3) for count, area, small in sides)
        item.hours = operations / (SPEED["float32"] if item.device == "GPU" else CORE) / 3600
        item.source = "arithmetic"
        return item


def _read(path: Path) -> dict[str, Any] | None:
    """A record, if it is there and whole."""
    try:
        found = read_json(path)
    except UserError:
        return None
    return found if isinstance(found, dict) and "provenance" in found else None
