"""Validation tasks: a swept `<task>-validation` chooses each method's learning rate for `<task>`, on other rows."""

from pissa_repro.plan import datasets
from pissa_repro.plan.parts import parts
from pissa_repro.plan.sections import Config
from pissa_repro.runtime.errors import UserError

VALIDATION = "-validation"


def check(config: Config) -> None:
    """Raise UserError for a swept validation task of another task file, or on the very rows that it chooses for."""
    for swept in parts(config).values():
        for task in swept["tasks"]:
            if f"{task}{VALIDATION}" in swept["tasks"]:
                _check(config, task, f"{task}{VALIDATION}")


def _check(config: Config, task: str, validation: str) -> None:
    scored, chosen = config["tasks"][task], config["tasks"][validation]
    place = f"config.tasks.{validation}"
    if chosen["task"] != scored["task"]:
        raise UserError(f"{place}.task: {chosen['task']}, and '{task}', whose rate it chooses, has {scored['task']}.")
    rows = [datasets.source(config["datasets"], one["dataset"]) for one in (scored, chosen)]
    if rows[0] == rows[1]:
        raise UserError(
            f"{place}.dataset: '{chosen['dataset']}' has the rows that '{task}' scores. A learning rate that is "
            "chosen on scored items flatters every method: give it other rows."
        )
