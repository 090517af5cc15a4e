"""Results of other people that stand below a sweep's rows: `elsewhere:` in the config. Imports no torch, as sweep.py.

They are numbers in files. Nothing of them is trained, scored or compared: their items are not known, so no difference
can be paired.
"""

from pathlib import Path

from pissa_repro import tasks
from pissa_repro.exchange import elsewhere
from pissa_repro.exchange.found import Read
from pissa_repro.plan.sections import Config, WrittenElsewhere
from pissa_repro.runtime.errors import UserError, unknown

PERCENT = "percent"


def check(config: Config) -> None:
    """Raise UserError for a definition that names what there is not, or a task whose scores are no fractions of 1."""
    for name, given in config.get("elsewhere", {}).items():
        place = f"config.elsewhere.{name}"
        for key, known in (("model", config["models"]), ("dataset", config["datasets"]), ("task", config["tasks"])):
            if given[key] not in known:  # type: ignore[literal-required]
                raise unknown(key, given[key], known, f"{place}.{key}")  # type: ignore[literal-required]
        unit = tasks.metadata(config["tasks"][given["task"]]["task"])["unit"]
        if unit != PERCENT:
            raise UserError(f"{place}.task: scores of '{given['task']}' are in {unit}; these files hold accuracies.")


def swept(config: Config) -> dict[str, WrittenElsewhere]:
    """The definitions whose task, model and dataset are swept: they stand below those rows."""
    axes = config["sweep"]
    return {
        name: given
        for name, given in config.get("elsewhere", {}).items()
        if given["task"] in axes["tasks"] and given["model"] in axes["models"] and given["dataset"] in axes["datasets"]
    }


def files(config: Config) -> list[Path]:
    """The files that the sweep's tables read."""
    found = (elsewhere.files(Path(given["path"]), _place(name)) for name, given in swept(config).items())
    return [path for some in found for path in some]


def read(config: Config, name: str) -> Read:
    """The runs of a definition. Raises UserError for a bad file, and where a run is of another model than it says."""
    given, place = config["elsewhere"][name], f"config.elsewhere.{name}"
    found = elsewhere.read(Path(given["path"]), given["format"], given.get("metric"), place)
    wanted = config["models"][given["model"]].get("hub")
    for run in found.runs:
        if wanted and run.base and run.base != wanted:
            raise UserError(f"{place}.model: {run.file} is of {run.base}; '{given['model']}' is {wanted}.")
    return found


def check_swept(config: Config) -> None:
    """Read all that tables will show, so that a bad file stops a run before its first job."""
    for name in swept(config):
        read(config, name)


def _place(name: str) -> str:
    return f"config.elsewhere.{name}.path"
