"""Where the curve of a training is shown while it runs: TensorBoard, Trackio, MLflow or Weights & Biases.

The Trainer's own integrations do it. How a run is watched is no part of what it is: nothing here is in a spec or in a
record, and train_steps.csv is written with and without them. Imports no torch: the workflow asks, too.
"""

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError, unknown

NONE, OPTION, PROJECT = "none", "report_to", "pissa-repro"
# Each by the name that transformers gives it, with the modules of which it takes any.
MODULES = {
    "tensorboard": ("tensorboard", "tensorboardX"),
    "trackio": ("trackio",),
    "mlflow": ("mlflow",),
    "wandb": ("wandb",),
}


@dataclass(frozen=True)
class Watched:
    """Which sinks a training is shown in, under the name of its cell."""

    sinks: tuple[str, ...] = ()
    run: str = ""

    def options(self) -> dict[str, Any]:
        """The same under the names of transformers' TrainingArguments."""
        if not self.sinks:
            return {"report_to": NONE}
        return {
            "report_to": list(self.sinks),
            "run_name": self.run,
            "project": PROJECT,
            "trackio_static_space_id": False,  # else Trackio may make a page of the run on a hub after the training
        }


UNWATCHED = Watched()


def named(text: str) -> tuple[str, ...]:
    """The sinks of a list such as "tensorboard,wandb", each once; of "none", no sink.

    Raises UserError for a word that is no sink, and for a sink that is not installed.
    """
    words = [word.strip() for word in text.split(",")]
    if words == [NONE]:
        return ()
    for word in words:
        if word not in MODULES:
            raise unknown("sink", word, {*MODULES, NONE} if len(words) == 1 else MODULES, OPTION)
        if not any(map(importlib.util.find_spec, MODULES[word])):
            raise UserError(
                f"{OPTION}: {word} is not installed. `pip install {MODULES[word][0]}` into the environment, or "
                "leave it out."
            )
    return tuple(dict.fromkeys(words))


def watched(text: str, cell: Path) -> Watched:
    """The sinks of a list, and the run of a cell's folder (model/data/cell). Raises UserError as `named` does."""
    return Watched(named(text), "/".join(cell.resolve().parts[-3:]))


def prepare(watch: Watched, environment: Mapping[str, str], logs: Path = paths.LOGS) -> dict[str, str]:
    """The variables that the sinks read, as far as the user's environment does not say them; makes their folders.

    All stays on this machine, in `logs`, which git ignores, or Trackio's own folder. TensorBoard gets a folder a cell.
    """
    home = {name: (logs / name).resolve() for name in watch.sinks}
    for folder in home.values():
        folder.mkdir(parents=True, exist_ok=True)
    found = {}
    if place := home.get("tensorboard"):
        found["TENSORBOARD_LOGGING_DIR"] = str(Path(environment.get("TENSORBOARD_LOGGING_DIR", place)) / watch.run)
    if place := home.get("mlflow"):
        found |= {"MLFLOW_TRACKING_URI": f"sqlite:///{place / 'mlflow.db'}", "MLFLOW_EXPERIMENT_NAME": PROJECT}
    if place := home.get("wandb"):
        found |= {"WANDB_DIR": str(place), "WANDB_PROJECT": PROJECT, "WANDB_MODE": "offline"}
    return {key: value for key, value in found.items() if key.startswith("TENSORBOARD") or key not in environment}


def start(watch: Watched) -> None:
    """Set these variables in this process, before the trainer is built."""
    os.environ.update(prepare(watch, os.environ))
