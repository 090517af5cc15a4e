"""What is checked of a model before its first costly job, for the sweep and for the studies. Imports no torch."""

from collections.abc import Iterator
from pathlib import Path
from typing import cast

from pissa_repro.plan import lora
from pissa_repro.plan.cells import Cell
from pissa_repro.plan.config import UNWRITTEN, written
from pissa_repro.plan.sweep import STAGE_VERSION, Sweep
from pissa_repro.runtime import paths
from pissa_repro.runtime.admit_specs import AdmitRows, AdmitSpec, AdmitTargets, AdmitTask
from pissa_repro.runtime.errors import unknown
from pissa_repro.runtime.record import canonical
from pissa_repro.runtime.specs import TaskSpec

READ = ("max_length", "prompt", "loss")  # settings by which rows are read


def spec(sweep: Sweep, purpose: str, model: str) -> AdmitSpec:
    """Spec of the admission of a model to a purpose: "sweep" or "studies". Raises UserError for another."""
    specs = {"sweep": _of_sweep, "studies": _of_studies}
    if purpose not in specs:
        raise unknown("purpose", purpose, specs, str(paths.admissions()))
    return specs[purpose](sweep, model)


def rows(asked: AdmitSpec) -> list[Path]:
    """The files of the rows that an admission reads, each once."""
    named = [training["rows"] for training in asked["training"]] + [task["rows"] for task in asked["tasks"].values()]
    return [paths.rows(name) for name in dict.fromkeys(named)]


def _of_sweep(sweep: Sweep, model: str) -> AdmitSpec:
    cells = [cell for cell in sweep.cells.values() if cell.model == model]
    if not cells:
        raise unknown("model", model, sweep.config["sweep"]["models"], "config.sweep.models")
    prompts = {dict(cell.train)["prompt"] for cell in cells}
    prompts |= {one.prompt for one in sweep.others.values() if one.model == model}
    tasks = {name: sweep.config["tasks"][name] for name in sweep.config["sweep"]["tasks"]}
    return {
        "stage": "admit",
        "version": STAGE_VERSION["admit"],
        "trained": True,
        "targets": list(_targets(sweep, cells)),
        "training": [*_training(cells), *_seen(sweep, cells)],
        "tasks": {name: _task(sweep.asked(name), task["dataset"], prompts) for name, task in tasks.items()},
    }


def _targets(sweep: Sweep, cells: list[Cell]) -> Iterator[AdmitTargets]:
    """The target modules of the cells with factors, each set once with all its ranks."""
    found: dict[str, tuple[AdmitTargets, set[int]]] = {}
    for cell in filter(sweep.has_factors, cells):
        targets, whole = sweep.targets(cell), lora.whole(sweep.definition(cell.method)["lora"])
        asked: AdmitTargets = {"modules": targets["target_modules"], "ranks": []}
        if "lora" in targets:
            asked["lora"] = targets["lora"]
        if whole:
            asked["whole"] = whole
        found.setdefault(canonical(asked), (asked, set()))[1].add(cell.rank)
    for asked, ranks in found.values():
        yield {**asked, "ranks": sorted(ranks)}


def _training(cells: list[Cell]) -> Iterator[AdmitRows]:
    """The datasets that the cells train on, each once with every length, prompt and loss."""
    keys = (*READ, "task")
    for data, *values in dict.fromkeys((cell.data, *(dict(cell.train).get(key) for key in keys)) for cell in cells):
        named = {key: value for key, value in zip(keys, values, strict=True) if value is not None}
        yield cast("AdmitRows", {"rows": data, **written(named)})


def _seen(sweep: Sweep, cells: list[Cell]) -> Iterator[AdmitRows]:
    """The same of the datasets that starts see, or that errors are weighed by, and no cell trains on."""
    trained_on, found = {cell.data for cell in cells}, []
    for one in (one for cell in cells for one in sweep.measured(cell) if one.data not in trained_on):
        settings = {key: one.spec[key] for key in READ if key in one.spec}  # type: ignore[literal-required]
        asked = cast("AdmitRows", {"rows": one.data, **settings})
        found += [asked] if asked not in found else []
    yield from found


def _task(task: TaskSpec, rows: str, prompts: set[str]) -> AdmitTask:
    """What a task asks for, with the prompts of all that is scored where these are not the released one alone."""
    asked: AdmitTask = {"task": task["task"], "rows": rows, "max_new_tokens": task["max_new_tokens"]}
    if task["backend"] != "hf":
        asked["backend"] = task["backend"]
    return asked if prompts == {UNWRITTEN["prompt"]} else {**asked, "prompts": sorted(prompts)}


def _of_studies(sweep: Sweep, model: str) -> AdmitSpec:
    """Weights are decomposed and nothing is trained; GPTQ alone runs the model on rows."""
    studies = sweep.config["studies"]
    if model not in studies["models"]:
        raise unknown("model", model, studies["models"], "config.studies.models")
    return {
        "stage": "admit",
        "version": STAGE_VERSION["admit"],
        "trained": studies["gptq"] is not None,
        "targets": [{"modules": studies["target_modules"], "ranks": sorted({studies["rank"], *studies["ranks"]})}],
        "training": [],
        "tasks": {},
    }
