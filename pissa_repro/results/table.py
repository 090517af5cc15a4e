"""The rows of scores.csv: one per score, with its cell, its training and its commits."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pissa_repro.plan.adopted import Adopted
from pissa_repro.plan.cells import Cell
from pissa_repro.plan.sweep import Sweep
from pissa_repro.results.records import Fetched, checked
from pissa_repro.runtime import paths
from pissa_repro.runtime.provenance import code
from pissa_repro.runtime.record_types import AdoptRecord, BaseRecord, Provenance, ScoreRecord, TrainRecord
from pissa_repro.tasks import METRIC

COLUMNS = (
    "cell model data method display quant rank learning_rate seed task metric value stderr n final_loss diverged "
    "trainable_parameters error_reduction seen_in_training train_seconds memory_bytes gpu_memory_bytes commit dirty "
    "record"
).split()


def rows(sweep: Sweep, results: Path, errors: bool = True) -> Iterator[dict[str, Any]]:
    """The rows of scores.csv, in the config's order. A number that does not exist is left out.

    A training that diverged has one row a task, with the step at which it did and without a score. errors: whether the
    quantization errors of the starts are asked for.
    """
    fetched = Fetched(results)
    reductions = {}
    for start, cell in sweep.starts.items():
        if errors and cell.quant != "none":
            path = paths.start_error(start, results)
            record = checked(path, sweep.quant_error_spec(cell))
            fetched.compare(path, record, cell.model)
            reductions[start] = record["reduction"]["avg"]
    for cell in sweep.cells.values():
        home = paths.cell(cell.name, results)
        train: TrainRecord = checked(home.train, sweep.train_spec(cell))
        fetched.compare(home.train, train, cell.model, cell.data)
        reduction = reductions.get(cell.start) if sweep.has_factors(cell) else None
        facts = {**identity(sweep, cell), **training(train), "error_reduction": reduction}
        yield from _scores(sweep, cell, facts, train["provenance"], fetched)
    for one in sweep.others.values():
        home = paths.cell(one.name, results)
        taken: AdoptRecord | BaseRecord = checked(home.train, sweep.trained_spec(one))
        fetched.compare(home.train, taken, one.model)
        yield from _scores(sweep, one, adoption(sweep, one, taken), taken["provenance"], fetched)


def _scores(
    sweep: Sweep, cell: Cell | Adopted, facts: dict[str, Any], origin: Provenance, fetched: Fetched
) -> Iterator[dict[str, Any]]:
    """The rows of one cell. facts: the columns that they share; origin: of what the cell's folder holds."""
    home = paths.cell(cell.name, fetched.results)
    for task in sweep.config["sweep"]["tasks"]:
        path = home.score(task)
        score: ScoreRecord = checked(path, sweep.evaluate_spec(cell, task))
        fetched.compare(path, score, cell.model, sweep.config["tasks"][task]["dataset"])
        fetched.compare_trained(path, score, home.train)
        metrics: Mapping[str, Any] = {METRIC: {}} if "diverged" in score else score["metrics"]
        for metric, value in metrics.items():
            yield {
                **facts,
                **code(origin, *score["generated"]["runs"], score["provenance"]),
                "task": task,
                "metric": metric,
                **value,
                "seen_in_training": score["seen_in_training"],
                "record": str(path),
            }


def adoption(sweep: Sweep, one: Adopted, record: AdoptRecord | BaseRecord) -> dict[str, Any]:
    """The columns of what was not trained here: rank and parameters are known at most; the base has no rank."""
    known = {"rank": record.get("rank"), "trainable_parameters": record["trainable_parameters"]}
    keys = ("model", "data", "method", "quant")
    return {"cell": one.name, "display": sweep.display(one), **{key: getattr(one, key) for key in keys}, **known}


def identity(sweep: Sweep, cell: Cell) -> dict[str, Any]:
    """The columns that say which cell a row is of."""
    keys = ("model", "data", "method", "quant", "rank", "learning_rate", "seed")
    return {"cell": cell.name, "display": sweep.display(cell), **{key: getattr(cell, key) for key in keys}}


def training(record: TrainRecord) -> dict[str, Any]:
    """The columns that come from the training record."""
    origin = record["provenance"]
    return {
        "final_loss": record["final_loss"],
        "diverged": record.get("diverged"),
        "trainable_parameters": record["trainable_parameters"],
        "train_seconds": record["train_seconds"],
        "memory_bytes": origin["memory_bytes"],
        "gpu_memory_bytes": origin["gpu_memory_bytes"],
    }
