"""Sweeps of models that give classes: what a config may say of them. Imports no torch."""

from collections.abc import Mapping
from typing import Any

from pissa_repro import tasks
from pissa_repro.model.architecture import CLASSIFICATION
from pissa_repro.plan import datasets
from pissa_repro.plan.parts import trained_on
from pissa_repro.plan.sections import Config
from pissa_repro.runtime.errors import UserError

GIVEN = {"prompt": "alpaca", "loss": "response"}  # settings that have no use for classes, at what nobody writes


def check(config: Config) -> None:
    """Raise UserError where the swept rows train classes and a task asks for words, or the other way round."""
    swept = config["sweep"]
    kinds = {name: datasets.trained_on(config["datasets"], name) == "label" for name in trained_on(config)}
    for task in swept["tasks"]:
        asks = _asks_classes(config["tasks"][task]["task"])
        for name, gives in kinds.items():
            if gives != asks:
                good = ", ".join(one for one in tasks.names() if _asks_classes(one) == gives)
                raise UserError(
                    f"config.sweep.tasks: '{task}' asks for {_what(asks)}, and '{name}' trains {_what(gives)} "
                    f"({'a' if gives else 'no'} role 'label'). Choices: tasks of {good}."
                )
        if asks and config["tasks"][task].get("backend", "hf") != "hf":
            raise UserError(f"config.tasks.{task}.backend: {CLASSIFICATION.no_vllm} Choose the backend hf.")
    if any(kinds.values()) and swept.get("adopted"):
        raise UserError(
            f"config.sweep.adopted: '{swept['adopted'][0]}' is scored on the same tasks, and what was trained "
            "elsewhere is not asked for classes here."
        )
    if any(kinds.values()) and swept.get("bases"):
        raise UserError("config.sweep.bases: before its training a base gives no classes. Leave it out.")


def _asks_classes(task: str) -> bool:
    return "label" in tasks.metadata(task)["fields"]


def _what(classes: bool) -> str:
    return "classes" if classes else "words"


def refuse_settings(train: Mapping[str, Any], data: str) -> None:
    """Raise UserError for settings of a cell that have no use where classes are trained."""
    for key, usual in GIVEN.items():
        if train[key] != usual:
            raise UserError(
                f"config.train.{key}: {train[key]!r}, and '{data}' trains classes (role 'label'): a text is read as it "
                "is, and the loss is taken on its class. Leave it out."
            )
