"""The sweep: the spec of each stage, for the cells of a config (grid.py).

A spec is a plain mapping that holds what decides a stage's result, but for the bits that it reads:
weights and rows count by the hashes that fetching has found, never by a path or a label, so only
the specs of fetching name a place. A spec contains those of the stages before, so that a change
upstream changes it too. Imports no torch: Snakemake reads this module for every dry run.
"""

import copy
from collections.abc import Mapping
from functools import cached_property
from typing import TypeVar, cast

from pissa_repro import methods
from pissa_repro.plan import config as config_module
from pissa_repro.plan import datasets, lora, statistics, versions
from pissa_repro.plan.adopted import Adopted
from pissa_repro.plan.cells import Cell
from pissa_repro.plan.grid import Grid
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError, unknown
from pissa_repro.runtime.specs import (
    AdoptSpec,
    BaseSpec,
    DataSpec,
    EvaluateSpec,
    GenerateSpec,
    InitSpec,
    ModelSource,
    ModelSpec,
    QuantErrorSpec,
    Targets,
    TaskSpec,
    TrainSettings,
    TrainSpec,
)

# Raise a number when a stage's code changes what comes out of it; its outputs are then made again.
STAGE_VERSION = {
    "fetch": 1, "admit": 1, "init": 1, "quant_error": 1, "train": 1, "adopt": 1, "base": 1, "generate": 1,
    "evaluate": 1,
}  # fmt: skip
SOLVER_VERSION = 1  # raised when a decomposition comes out otherwise (krylov, gram, spectrum)
Definition = TypeVar("Definition")


def _defined(section: str, definitions: Mapping[str, Definition], name: str) -> Definition:
    """A definition of a section of the config. Raises UserError with the nearest known name."""
    if name not in definitions:
        raise unknown(section[:-1], name, definitions, f"config.{section}")
    return definitions[name]


def scoring(generate: GenerateSpec) -> EvaluateSpec:
    """Spec of scoring what was generated from a spec."""
    task = versions.of_task(generate["task"])
    return {"stage": "evaluate", "version": STAGE_VERSION["evaluate"], **task, "generate": generate}


def _only(keep: tuple[str, ...], definition: ModelSource) -> ModelSource:
    """The keys of a definition that say where it comes from."""
    return cast("ModelSource", {key: value for key, value in definition.items() if key in keep})


class Sweep(Grid):
    """All cells of a checked config, and what is made for them. Raises UserError on a config that makes no sense."""

    @cached_property
    def starts(self) -> dict[str, Cell]:
        """One cell for each folder of initial factors."""
        starts: dict[str, Cell] = {}
        for cell in filter(self.has_factors, self.cells.values()):
            first = starts.setdefault(cell.start, cell)
            if self.init_spec(first) != self.init_spec(cell):
                raise UserError(
                    f"config.overrides: {first.name} and {cell.name} would share {paths.start(cell.start)} "
                    "but start differently. Give one of them a method of its own name."
                )
        return starts

    def start(self, name: str) -> Cell:
        """One cell of those that start from results/init/<name>."""
        if name not in self.starts:
            raise unknown("start", name, self.starts, str(paths.starts()))
        return self.starts[name]

    def model_spec(self, model: str) -> ModelSpec:
        """Spec of fetching a model."""
        source = _only(("path", "hub", "revision", "gated"), _defined("models", self.config["models"], model))
        return {"stage": "fetch", "version": STAGE_VERSION["fetch"], "model": source}

    def data_spec(self, data: str) -> DataSpec:
        """Spec of fetching a dataset."""
        source = datasets.source(self.config["datasets"], data)
        return {"stage": "fetch", "version": STAGE_VERSION["fetch"], "dataset": source}

    def init_spec(self, cell: Cell) -> InitSpec | None:
        """Spec of making the initial factors; None for a method without factors."""
        return self._factors_spec(cell) if self.has_factors(cell) else None

    def _factors_spec(self, cell: Cell) -> InitSpec:
        definition, train = self.definition(cell.method), dict(cell.train)
        options = methods.options(
            definition["init"], cell.quant, definition["options"], f"config.methods.{cell.method}"
        )
        known = {one.spec["kind"]: one.spec for one in self._known(cell)}
        return {
            **({"statistics": known} if known else {}),  # type: ignore[typeddict-item]
            "stage": "init",
            "version": STAGE_VERSION["init"],
            "solver_version": SOLVER_VERSION,
            "method": definition["init"],
            "method_version": methods.version(definition["init"]),
            "options": options,
            "quant": cell.quant,
            **versions.of_quants([cell.quant]),
            "rank": cell.rank,
            "alpha": self._alpha(cell),
            "rslora": train["rslora"],
            **self.targets(cell),
            "seed": cell.start_seed,
        }

    def _known(self, cell: Cell) -> list[statistics.Statistic]:
        """What a cell's start knows of data, each of another kind; mostly nothing."""
        if not cell.seen:
            return []
        drawn = statistics.drawn(self.definition(cell.method))
        return self._statistics(cell, cell.seen, drawn, f"config.methods.{cell.method}")

    def _statistics(self, cell: Cell, data: str, draws: statistics.Draws, place: str) -> list[statistics.Statistic]:
        """Statistics of a cell's target modules over rows of a dataset that a place names, as training takes them."""
        settings = {**{key: dict(cell.train)[key] for key in ("max_length", "prompt")}, "loss": cell.loss}
        if statistics.of_texts(self.config, data, place):
            settings["loss"] = "all"
        asked = statistics.specs(draws, self.targets(cell), config_module.written(settings))
        return [statistics.Statistic(cell.model, data, spec) for spec in asked.values()]

    def known(self, cell: Cell) -> list[str]:
        """The names of the statistics that a cell's start is made from."""
        return [one.name for one in self._known(cell)]

    def weighing(self, cell: Cell) -> statistics.Statistic | None:
        """What the error of a cell's start is weighed by; None where it has none, or the config does not ask for it."""
        asked = self.config["studies"].get("data")
        if asked is None or cell.quant == "none" or not self.has_factors(cell):
            return None
        (one,) = self._statistics(cell, asked["dataset"], statistics.of_errors(asked), "config.studies.data")
        return one

    def measured(self, cell: Cell) -> list[statistics.Statistic]:
        """All statistics that a cell's start, or the measurement of its error, asks for."""
        weighing = self.weighing(cell)
        return self._known(cell) + ([weighing] if weighing else [])

    @cached_property
    def statistic_jobs(self) -> dict[str, statistics.Statistic]:
        """What starts of the sweep know of data, and what their errors are weighed by, by name, each once."""
        return {one.name: one for cell in self.starts.values() for one in self.measured(cell)}

    def statistic(self, name: str) -> statistics.Statistic:
        """The statistic of that name. Raises UserError with the nearest known name."""
        if name not in self.statistic_jobs:
            raise unknown("statistic", name, self.statistic_jobs, str(paths.all_statistics()))
        return self.statistic_jobs[name]

    def targets(self, cell: Cell) -> Targets:
        """Which modules of a cell get factors."""
        return lora.targets(self.definition(cell.method)["lora"], dict(cell.train))

    def _alpha(self, cell: Cell) -> float:
        alpha = dict(cell.train)["alpha"]
        return float(cell.rank if alpha == "rank" else alpha)

    def quant_error_spec(self, cell: Cell) -> QuantErrorSpec:
        """Spec of measuring the quantization error of the initial factors, which the cell has."""
        version, weighing = STAGE_VERSION["quant_error"], self.weighing(cell)
        spec: QuantErrorSpec = {"stage": "quant_error", "version": version, "init": self._factors_spec(cell)}
        return {**spec, "weighed_by": weighing.spec} if weighing else spec

    def train_spec(self, cell: Cell) -> TrainSpec:
        """Spec of training a cell."""
        of_init = ("alpha", "rslora", "target_modules")
        settings = {key: value for key, value in cell.train if key not in of_init}
        definition = self.definition(cell.method)
        spec: TrainSpec = {
            "stage": "train",
            "version": STAGE_VERSION["train"],
            "method": definition["init"],
            "quant": cell.quant,
            "init": self.init_spec(cell),
            "lora": lora.in_training(definition["lora"]),
            "learning_rate": cell.learning_rate,
            "seed": cell.seed,
            "settings": cast("TrainSettings", config_module.written(settings)),
        }
        if options := methods.training_options(definition["init"], definition["options"]):
            spec["options"] = options
        return spec

    def trained_spec(self, cell: Cell | Adopted) -> TrainSpec | AdoptSpec | BaseSpec:
        """Spec of training a cell, of taking in what was trained elsewhere, or of the base as it is."""
        return cell.spec(STAGE_VERSION[cell.stage]) if isinstance(cell, Adopted) else self.train_spec(cell)

    def generate_spec(self, cell: Cell | Adopted, task: str) -> GenerateSpec:
        """Spec of what a trained cell generates on a task of the config."""
        version = STAGE_VERSION["generate"]
        return {"stage": "generate", "version": version, "train": self.trained_spec(cell), **self.asked(task)}

    def asked(self, task: str) -> TaskSpec:
        """The part of a generate spec that the task decides."""
        definition = _defined("tasks", self.config["tasks"], task)
        return {
            "task": definition["task"],
            "max_new_tokens": definition["max_new_tokens"],
            "backend": definition.get("backend", "hf"),
            "dtype": definition.get("dtype", "float32"),
        }

    def evaluate_spec(self, cell: Cell | Adopted, task: str) -> EvaluateSpec:
        """Spec of scoring what a trained cell has generated on a task of the config."""
        return scoring(self.generate_spec(cell, task))

    def by_task_file(self) -> dict[str, "Sweep"]:
        """The sweep by the lm-eval task file of its tasks: {file: the part with the tasks that use it}."""
        swept, tasks = self.config["sweep"]["tasks"], self.config["tasks"]
        files = sorted({tasks[task]["task"] for task in swept})
        return {file: self.with_tasks([task for task in swept if tasks[task]["task"] == file]) for file in files}

    def with_tasks(self, tasks: list[str]) -> "Sweep":
        """The part of the sweep with these of its tasks."""
        part = copy.copy(self)  # with the cells that it has made: they are the same for all tasks
        part.config = {**self.config, "sweep": {**self.config["sweep"], "tasks": tasks}}
        return part
