"""The config of test_bad_config.py, and every name and path that a sweep makes."""

from test_bad_config import GOOD, changed

from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime import paths
from pissa_repro.scoring.generations import place

__all__ = ["GOOD", "changed", "components", "files_of", "names_of"]


def names_of(sweep: Sweep, batches) -> list[str]:
    """The names of cells, starts and batches, and of what is fetched."""
    swept = sweep.config["sweep"]
    defined = [name for section in ("models", "datasets", "tasks") for name in sweep.config[section]]
    return [*sweep.cells, *sweep.starts, *batches.by_name, *defined, *swept["models"], *swept["tasks"]]


def files_of(sweep: Sweep, batches) -> list:
    """The files of every cell, start and batch, of every model and dataset, and of pairs of tasks."""
    tasks, found = sweep.config["sweep"]["tasks"], []
    for name, cell in sweep.cells.items():
        files = paths.cell(name)
        found += [files.train, files.trained, paths.SCRATCH / name, paths.log("train", name)]
        found += [path for task in tasks for path in (files.score(task), files.samples(task))]
        found += [place(files, task, sweep.generate_spec(cell, task)) for task in tasks[:1]]
        found += [paths.parity(name, tasks[0], tasks[-1])]
    found += [path for name in sweep.starts for path in (paths.start(name), paths.start_error(name))]
    found += [paths.batch(name) for name in batches.by_name]
    found += [path for name in sweep.config["models"] for path in (paths.model(name), paths.study(name, "x.json"))]
    return found + [path for name in sweep.config["datasets"] for path in (paths.data(name), paths.rows(name))]


def components(sweep: Sweep, batches) -> list[str]:
    """The parts of all these paths."""
    return [part for path in files_of(sweep, batches) for part in path.parts]
