"""The sweep: which cells exist, where their files are, and the spec of each stage.

A spec is a plain mapping that holds everything that decides a stage's result and nothing else.
It contains the specs of the stages before, so that a change upstream changes it too. Imports no
torch: Snakemake reads this module for every dry run.
"""

import copy
import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pissa_repro import methods
from pissa_repro.plan import config as config_module
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError, unknown

# Raise a number when a stage's code changes what comes out of it; its outputs are then made again.
STAGE_VERSION = {"fetch": 1, "init": 1, "quant_error": 1, "train": 1, "generate": 1, "evaluate": 1}
SOLVER_VERSION = 1  # raised when a decomposition comes out otherwise (krylov, gram, spectrum, quantize)


@dataclass(frozen=True)
class Cell:
    """One point of the sweep: model x data x method x quant x rank x learning rate x seed."""

    model: str
    data: str
    method: str
    quant: str
    rank: int  # 0 where the method has no factors
    learning_rate: float
    seed: int
    start_seed: int  # the seed of the factors: 0 for a method whose start is not random
    train: tuple[tuple[str, Any], ...]  # the training settings after overrides
    reasons: tuple[str, ...] = ()  # why the overrides that apply do

    @property
    def name(self) -> str:
        """The cell's folder below results/cells."""
        lr = _number(self.learning_rate)
        return f"{self.model}/{self.data}/{self.method}-{self.quant}-r{self.rank}-lr{lr}-s{self.seed}"

    @property
    def start(self) -> str:
        """The folder of the cell's initial factors below results/init; shared between cells."""
        return f"{self.model}/{self.method}-{self.quant}-r{self.rank}-s{self.start_seed}"


def _number(value: float) -> str:
    """A number in a path: short where that is exact."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


class Sweep:
    """All cells of a checked config. Raises UserError on a config that makes no sense."""

    def __init__(self, raw: dict[str, Any]):
        self.config = config_module.check(raw)

    @cached_property
    def points(self) -> list[tuple[str, Cell]]:
        """Every point of the sweep in the config's order, as the name of what all methods share there, and the cell."""
        axes = ("models", "datasets", "cells", "ranks", "learning_rates", "seeds")
        found = []
        for model, data, pair, r, lr, s in itertools.product(*(self.config["sweep"][axis] for axis in axes)):
            point = f"{model}/{data}/r{r}-lr{_number(lr)}-s{s}"
            found.append((point, self._cell(model, data, **pair, rank=r, rate=lr, seed=s)))
        return found

    @cached_property
    def cells(self) -> dict[str, Cell]:
        """The cells by name, in the config's order, each once."""
        return {cell.name: cell for _, cell in self.points}

    @cached_property
    def starts(self) -> dict[str, Cell]:
        """One cell for each folder of initial factors."""
        found: dict[str, Cell] = {}
        for cell in filter(self.has_factors, self.cells.values()):
            first = found.setdefault(cell.start, cell)
            if self.init_spec(first) != self.init_spec(cell):
                raise UserError(
                    f"config.overrides: {first.name} and {cell.name} would share {paths.start(cell.start)} "
                    "but start differently. Give one of them a method of its own name."
                )
        return found

    def cell(self, name: str) -> Cell:
        """The cell of that name. Raises UserError with the nearest known name."""
        if name not in self.cells:
            raise unknown("cell", name, self.cells, str(paths.cells()))
        return self.cells[name]

    def start(self, name: str) -> Cell:
        """One cell of those that start from results/init/<name>."""
        if name not in self.starts:
            raise unknown("start", name, self.starts, str(paths.starts()))
        return self.starts[name]

    def _cell(self, model: str, data: str, method: str, quant: str, rank: int, rate: float, seed: int) -> Cell:
        values: dict[str, Any] = dict(self.config["train"]) | {"rank": rank, "learning_rate": rate}
        here = {"model": model, "dataset": data, "method": method, "quant": quant}
        reasons = []
        for override in self.config["overrides"]:
            if override["where"].items() <= here.items():
                values |= override["set"]
                reasons.append(override["why"])
        rank, rate, init = values.pop("rank"), float(values.pop("learning_rate")), self.definition(method)["init"]
        values["target_modules"] = tuple(values["target_modules"])
        return Cell(
            model=model, data=data, method=method, quant=quant, learning_rate=rate, seed=seed,
            rank=rank if methods.has_factors(init) else 0,
            start_seed=seed if methods.load(init).RANDOM else 0,
            train=tuple(sorted(values.items())),
            reasons=tuple(reasons),
        )  # fmt: skip

    def definition(self, method: str) -> dict[str, Any]:
        """The named method of the config: init, options, lora, display."""
        return config_module.method_definition(self.config, method, "config.sweep.cells")

    def has_factors(self, cell: Cell) -> bool:
        """Whether the cell trains factors (full fine-tuning does not)."""
        return methods.has_factors(self.definition(cell.method)["init"])

    def display(self, cell: Cell) -> str:
        """The method's name in tables."""
        definition = self.definition(cell.method)
        return definition.get("display") or methods.display(definition["init"], cell.quant)

    def model_spec(self, model: str) -> dict[str, Any]:
        """Spec of fetching a model."""
        keep = ("path", "hub", "revision", "gated")
        definition = self._defined("models", model)
        source = {key: definition[key] for key in keep if key in definition}
        return {"stage": "fetch", "version": STAGE_VERSION["fetch"], "model": source}

    def data_spec(self, data: str) -> dict[str, Any]:
        """Spec of fetching a dataset."""
        keep = ("path", "hub", "revision", "file", "rows", "fields", "response_format")
        definition = self._defined("datasets", data)
        source = {key: definition[key] for key in keep if key in definition}
        return {"stage": "fetch", "version": STAGE_VERSION["fetch"], "dataset": source}

    def _defined(self, section: str, name: str) -> dict[str, Any]:
        if name not in self.config[section]:
            raise unknown(section[:-1], name, self.config[section], f"config.{section}")
        return self.config[section][name]

    def init_spec(self, cell: Cell) -> dict[str, Any] | None:
        """Spec of making the initial factors; None for a method without factors."""
        if not self.has_factors(cell):
            return None
        definition, train = self.definition(cell.method), dict(cell.train)
        options = methods.options(
            definition["init"], cell.quant, definition["options"], f"config.methods.{cell.method}"
        )
        return {
            "stage": "init",
            "version": STAGE_VERSION["init"],
            "solver_version": SOLVER_VERSION,
            "model": self.model_spec(cell.model),
            "method": definition["init"],
            "method_version": methods.load(definition["init"]).VERSION,
            "options": options,
            "quant": cell.quant,
            "rank": cell.rank,
            "alpha": self._alpha(cell),
            "rslora": train["rslora"],
            "target_modules": list(train["target_modules"]),
            "seed": cell.start_seed,
        }

    def _alpha(self, cell: Cell) -> float:
        alpha = dict(cell.train)["alpha"]
        return float(cell.rank if alpha == "rank" else alpha)

    def quant_error_spec(self, cell: Cell) -> dict[str, Any]:
        """Spec of measuring the quantization error of the initial factors."""
        return {"stage": "quant_error", "version": STAGE_VERSION["quant_error"], "init": self.init_spec(cell)}

    def train_spec(self, cell: Cell) -> dict[str, Any]:
        """Spec of training a cell."""
        settings = {key: list(value) if isinstance(value, tuple) else value for key, value in cell.train}
        for belongs_to_init in ("alpha", "rslora", "target_modules"):
            settings.pop(belongs_to_init)
        return {
            "stage": "train",
            "version": STAGE_VERSION["train"],
            "model": self.model_spec(cell.model),
            "method": self.definition(cell.method)["init"],
            "quant": cell.quant,
            "init": self.init_spec(cell),
            "lora": self.definition(cell.method)["lora"],
            "data": self.data_spec(cell.data),
            "learning_rate": cell.learning_rate,
            "seed": cell.seed,
            "settings": settings,
        }

    def generate_spec(self, cell: Cell, task: str) -> dict[str, Any]:
        """Spec of what a trained cell generates on a task of the config."""
        version = STAGE_VERSION["generate"]
        return {"stage": "generate", "version": version, "train": self.train_spec(cell), **self.asked(task)}

    def asked(self, task: str) -> dict[str, Any]:
        """The part of a generate spec that the task decides."""
        definition = self._defined("tasks", task)
        return {
            "task": definition["task"],
            "max_new_tokens": definition["max_new_tokens"],
            "backend": definition.get("backend", "hf"),
            "dtype": definition.get("dtype", "float32"),
            "data": self.data_spec(definition["dataset"]),
        }

    def evaluate_spec(self, cell: Cell, task: str) -> dict[str, Any]:
        """Spec of scoring what a trained cell has generated on a task of the config."""
        version = STAGE_VERSION["evaluate"]
        return {"stage": "evaluate", "version": version, "generate": self.generate_spec(cell, task)}

    def by_task_file(self) -> dict[str, "Sweep"]:
        """The sweep by the lm-eval task file of its tasks: {file: the part with the tasks that use it}."""
        asked, tasks = self.config["sweep"], self.config["tasks"]
        found = {}
        for file in sorted({tasks[task]["task"] for task in asked["tasks"]}):
            own = [task for task in asked["tasks"] if tasks[task]["task"] == file]
            found[file] = copy.copy(self)  # with the cells that it has made: they are the same for all tasks
            found[file].config = self.config | {"sweep": asked | {"tasks": own}}
        return found
