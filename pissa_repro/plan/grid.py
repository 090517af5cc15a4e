"""The cells of a checked config: every combination that it sweeps, each with the settings that hold for it.

Imports no torch: Snakemake reads this module for every dry run.
"""

import copy
import itertools
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from typing import Any, Self

from pissa_repro import methods
from pissa_repro.model.classes import TASK
from pissa_repro.plan import adopted, bases, classes, datasets, lora, parts, statistics
from pissa_repro.plan import config as config_module
from pissa_repro.plan.adopted import Adopted
from pissa_repro.plan.cells import Cell, Point
from pissa_repro.plan.labels import labels
from pissa_repro.plan.sections import NamedMethod
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError, unknown


class Grid:
    """All cells of a checked config. Raises UserError on a config that makes no sense."""

    def __init__(self, raw: Mapping[str, Any]):
        self.config = config_module.check(raw)
        named = {method: self.definition(method) for method, _ in parts.pairs(self.config)}
        self.labels = labels(self.config, named)
        self.adopted = adopted.swept(self.config)
        self.bases = bases.swept(self.config)
        self.others: dict[str, Adopted] = {**self.bases, **self.adopted}  # scored beside the cells, not trained here
        adopted.check_labels(self.labels.values(), self.others.values())

    @cached_property
    def points(self) -> list[tuple[str, Cell]]:
        """Every point of the sweep in the config's order, as the name of what all methods share there, and the cell."""
        return [(point.shared, self._cell(point)) for point in self._grid()]

    def _grid(self) -> Iterator[Point]:
        """Every combination that the config sweeps."""
        for swept in parts.parts(self.config).values():
            before = itertools.product(swept["models"], swept["datasets"], swept["cells"])
            after = list(itertools.product(swept["ranks"], swept["learning_rates"], swept["seeds"]))
            for (model, data, cell), (rank, rate, seed) in itertools.product(before, after):
                yield Point(model, data, cell["method"], cell["quant"], rank, rate, seed)

    @cached_property
    def _trained_on(self) -> dict[str, str]:
        """What the rows of the training datasets teach: a response, a text or a label."""
        return {name: datasets.trained_on(self.config["datasets"], name) for name in parts.trained_on(self.config)}

    @cached_property
    def cells(self) -> dict[str, Cell]:
        """The cells by name, in the config's order, each once."""
        return {cell.name: cell for _, cell in self.points}

    def shown_in(self, exhibit: str) -> Self:
        """What an exhibit shows: the sweep, or what the config says under `exhibits` that it sweeps beside it."""
        apart = self.config.get("exhibits")
        return self if apart is None else self.narrowed(**apart.get(exhibit, {}))

    def narrowed(self, **axes: Any) -> Self:
        """The sweep with other values on some axes, and without what exhibits sweep apart. Nothing is checked again."""
        part = self._without_cells()
        config = {key: value for key, value in self.config.items() if key != "exhibits"}
        part.config = {**config, "sweep": {**self.config["sweep"], **axes}}  # type: ignore[typeddict-item]
        return part

    def only(self, names: Collection[str]) -> Self:
        """The part of the sweep that has these cells alone, and nothing that was not trained here."""
        part = self._without_cells()
        part.cells = {name: cell for name, cell in self.cells.items() if name in names}
        part.adopted, part.bases, part.others = {}, {}, {}
        return part

    def _without_cells(self) -> Self:
        """A copy that has forgotten what follows from its config."""
        part = copy.copy(self)
        kept = {name for name in vars(self) if not isinstance(getattr(type(self), name, None), cached_property)}
        part.__dict__ = {name: value for name, value in vars(self).items() if name in kept}
        return part

    def cell(self, name: str) -> Cell:
        """The cell of that name. Raises UserError with the nearest known name."""
        if name not in self.cells:
            raise unknown("cell", name, self.cells, str(paths.cells()))
        return self.cells[name]

    def scored(self, name: str) -> Cell | Adopted:
        """The cell, the base or the adapter that was trained elsewhere of that name. Raises UserError as `cell`."""
        return self.others[name] if name in self.others else self.cell(name)

    def _cell(self, point: Point) -> Cell:
        """The cell at a point: of several overrides that set the same, the last one holds."""
        overrides = [override for override in self.config["overrides"] if point.meets(override)]
        changed = {key: value for override in overrides for key, value in override["set"].items()}
        definition = self.definition(point.method)
        train = {key: changed.get(key, value) for key, value in self.config["train"].items()}
        train |= lora.replaced(definition["lora"])
        lora.check_dtype(definition["lora"], train["dtype"], f"config.methods.{point.method}.lora")
        if train["tf32"] and not self.config["models"][point.model].get("gpus", 0):
            raise UserError(f"config.train.tf32: true is for cards, and models.{point.model} has gpus: 0.")
        if isinstance(train["target_modules"], list):
            train["target_modules"] = tuple(train["target_modules"])
        loss = train["loss"]
        if self._trained_on[point.data] == "text":
            train["loss"] = "all"
        if self._trained_on[point.data] == "label":
            classes.refuse_settings(train, point.data)
            train["task"] = TASK
        init = definition["init"]
        return Cell(
            model=point.model,
            data=point.data,
            method=point.method,
            quant=point.quant,
            rank=changed.get("rank", point.rank) if methods.has_factors(init) else 0,
            learning_rate=float(changed.get("learning_rate", point.learning_rate)),
            seed=point.seed,
            start_seed=point.seed if methods.load(init).RANDOM else 0,
            train=tuple(sorted(train.items())),
            reasons=tuple(override["why"] for override in overrides),
            treated_alone=any("method" in override["where"] for override in overrides),
            seen=statistics.data(definition, point.data),
            loss=loss,
        )

    def definition(self, method: str) -> NamedMethod:
        """The named method of the config: init, options, lora, display."""
        return config_module.method_definition(self.config, method, "config.sweep.cells")

    def has_factors(self, cell: Cell) -> bool:
        """Whether the cell trains factors (full fine-tuning does not)."""
        return methods.has_factors(self.definition(cell.method)["init"])

    def start_of(self, cell: Cell | Adopted) -> str | None:
        """The name of the initial factors that are made for a cell; None where there are none."""
        return cell.start if isinstance(cell, Cell) and self.has_factors(cell) else None

    def display(self, cell: Cell | Adopted) -> str:
        """The label of the cell's row in tables and figures, the same for all its ranks, rates and seeds."""
        return cell.display if isinstance(cell, Adopted) else self.labels[cell.method, cell.quant]
