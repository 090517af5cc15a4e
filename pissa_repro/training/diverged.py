"""A training that diverged: after its weights had moved, a loss or a gradient was no finite number. It ends there.

It is a result and no fault: its record says at which step, nothing of it is scored, and tables and figures show it.
Before the weights have moved the rate has done nothing, so that the start or the rows are at fault: an error.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import atomic, read_json

README = """# Diverged

At step {step} the loss or its gradient was no finite number, and this training ended. There are no trained weights, and
nothing to score. `{record}` beside this folder says what it was trained with.
"""


def step_of(history: Sequence[Mapping[str, Any]]) -> int | None:
    """The first step of a Trainer's log whose loss or norm of the gradient is no finite number; None without one."""
    return next((entry["step"] for entry in history if "loss" in entry and not finite(entry)), None)


def finite(entry: Mapping[str, Any]) -> bool:
    """Whether the loss of a step, and the norm of its gradient, are finite numbers."""
    return math.isfinite(entry["loss"]) and math.isfinite(entry.get("grad_norm", 0.0))


def check_moved(history: Sequence[Mapping[str, Any]]) -> None:
    """Raise UserError where the last step of a log is no number although no step before it had a rate above 0."""
    *before, last = [entry for entry in history if "loss" in entry]
    if not any(entry.get("learning_rate") for entry in before):
        raise UserError(
            f"step {last['step']}: the loss is {last['loss']}, the norm of its gradient {last.get('grad_norm')}, "
            "before any weight has moved. No learning rate does this: the model, its start or a row is at fault."
        )


def save(folder: Path, step: int) -> None:
    """Write what stands in the place of trained weights: README.md, which says that there are none."""
    with atomic(folder / "README.md") as file:
        file.write(README.format(step=step, record=paths.Cell(folder).train.name))


def step_in(trained: Path) -> int | None:
    """The step at which the training of this folder diverged, by the record beside it; None where it did not.

    Raises UserError where there is no record.
    """
    record: Any = read_json(paths.Cell(trained.parent).train)
    return record.get("diverged") if isinstance(record, dict) else None


def refuse(trained: Path) -> None:
    """Raise UserError for the folder of a training that diverged, where trained weights are needed."""
    if step := step_in(trained):
        raise UserError(f"{trained}: this training diverged at step {step}; it has left no weights.")
