"""Check a config, and say what it would sweep.

    pissa check
    pissa check config/parity.yaml

As the dry run does: the configs are laid over config/config.yaml and over each other like those of `snakemake
--configfile`, so that mappings merge and lists are replaced. Exit code 1 where something makes no sense, with its
place and the nearest known word. Warns of trainings and scoring that take more than a card of 80 GiB, where the
size of the model is known (`pissa plan --card` for another card). Models and rows are not looked at: the workflow's
`admit` does that first.
"""

from pathlib import Path
from typing import Annotated

import typer

from pissa_repro import exhibits
from pissa_repro.plan import config, elsewhere
from pissa_repro.plan.batches import Batches
from pissa_repro.plan.checked import checked, warnings
from pissa_repro.plan.sections import Config, Dataset
from pissa_repro.plan.sweep import Sweep
from pissa_repro.results import fitting
from pissa_repro.results.sizes import size_of
from pissa_repro.runtime import paths


def check(
    configs: Annotated[list[Path] | None, typer.Argument(help="Config files, the last one wins.")] = None,
) -> None:
    """A few lines on cells, tasks and jobs."""
    exhibits.PLUGINS.check()
    sweep, batches = checked(config.load(config.ROOT / "config" / "config.yaml", *(configs or ())))
    exhibits.outputs(sweep)  # the names under `exhibits`
    sizes = {model: size_of(sweep, model, paths.RESULTS) for model in sweep.config["sweep"]["models"]}
    large = fitting.told(sweep, fitting.asked(sweep, sizes), sizes, fitting.CARD)
    unscored = fitting.unscored(sweep, sizes, sizes, fitting.CARD)
    told = [f"warning: {text}" for text in (*warnings(sweep), *large, *unscored)]
    print("\n".join([*cells(sweep), *jobs(sweep, batches), *tasks(sweep.config), *told]))


def cells(sweep: Sweep) -> list[str]:
    """How many cells, and the axes that they come from."""
    swept = sweep.config["sweep"]
    axes = {
        "models": swept["models"],
        "datasets": swept["datasets"],
        "methods": [f"{cell['method']}/{cell['quant']}" for cell in swept["cells"]],
        "ranks": map(str, swept["ranks"]),
        "learning rates": map(str, swept["learning_rates"]),
        "seeds": map(str, swept["seeds"]),
    }
    lines = [f"  {axis}: {', '.join(values)}" for axis, values in axes.items()]
    overridden = sum(bool(cell.reasons) for cell in sweep.cells.values())
    if sweep.bases:
        lines.append(f"  base models: {', '.join(dict.fromkeys(one.quant for one in sweep.bases.values()))}")
    if others := elsewhere.swept(sweep.config):
        lines.append(f"  results of others: {', '.join(others)}")
    if sweep.adopted:
        lines.append(f"  trained elsewhere: {', '.join(one.method for one in sweep.adopted.values())}")
    return [f"{len(sweep.cells)} cells" + (f", {overridden} with overrides" if overridden else ""), *lines]


def jobs(sweep: Sweep, batches: Batches) -> list[str]:
    """What would run when nothing is there yet."""
    quantized = sum(cell.quant != "none" for cell in sweep.starts.values())
    scores = (len(sweep.cells) + len(sweep.others)) * len(sweep.config["sweep"]["tasks"])
    return [
        f"{len(sweep.starts)} starts ({quantized} quantized), {len(sweep.cells)} trainings, "
        f"{len(batches.by_name)} {'launch' if len(batches.by_name) == 1 else 'launches'} of an engine, {scores} scores"
    ]


def tasks(settings: Config) -> list[str]:
    """The swept tasks: task file, dataset and its rows, engine."""
    lines = []
    for name in settings["sweep"]["tasks"]:
        task = settings["tasks"][name]
        rows = _rows(settings["datasets"][task["dataset"]])
        lines.append(f"  {name}: {task['task']} on {task['dataset']} ({rows}), {task.get('backend', 'hf')}")
    return ["tasks", *lines]


def _rows(dataset: Dataset) -> str:
    """How many rows a dataset has, as far as the config says."""
    if "rows" in dataset:
        return f"rows {dataset['rows']}" if isinstance(dataset["rows"], str) else f"{dataset['rows']} rows"
    return f"a part of {dataset['of']}" if "of" in dataset else "all rows"
