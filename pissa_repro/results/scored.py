"""Scored cells: their records and items, and how they are named on a command line."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from pissa_repro import methods
from pissa_repro import tasks as task_files
from pissa_repro.plan.adopted import ELSEWHERE
from pissa_repro.plan.lora import ALLOWED, PATTERNS
from pissa_repro.results.measure import PERCENT, Measure, measure_of
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError, unknown
from pissa_repro.runtime.record import canonical, read_json, read_lines
from pissa_repro.runtime.record_types import Sample, ScoreRecord
from pissa_repro.sources.prompt import words_of
from pissa_repro.tasks import METRIC

REPLACED = [field.replaces for field in ALLOWED.values() if field.replaces]  # a method may have its own
FORMS = (
    f"Give a scoring record (<task>.json), its <task>{paths.SAMPLES}, a cell's folder, or a cell without its -s<seed>."
)


@dataclass(frozen=True, eq=False)
class Scored:
    """One cell's score on one task: where its record is, the record, its items, and their scores (items,)."""

    path: Path
    record: ScoreRecord
    rows: list[Sample]
    scores: np.ndarray


def read_items(path: Path, metric: str = METRIC) -> tuple[list[Sample], np.ndarray]:
    """The items of a samples file (id, prompt, target, generated, metrics), and their scores (items,) by a metric.

    Raises UserError when it is missing or damaged, or an item has no number under that metric.
    """
    try:
        rows = read_lines(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such samples. Run snakemake to make them.") from None
    except ValueError as error:
        raise UserError(f"{path}: not complete samples ({error}). Delete them and run again.") from None
    for row in rows:
        if not isinstance(row, dict) or not {"id", "prompt"} <= row.keys():
            raise UserError(f"{path}: no samples file; an item of one has an id and a prompt.")
        value = row.get(metric)
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise UserError(f"{path}: item {row['id']} has no number for metric '{metric}' (it has {value!r}).")
    return rows, np.array([row[metric] for row in rows], dtype=float)


def keys(rows: list[Sample]) -> list[str]:
    """What tells items apart: id and the user's words, as one text. Cells may ask the same items in other styles."""
    return [canonical([row["id"], words_of(row["prompt"])]) for row in rows]


def read(path: Path, metric: str) -> Scored:
    """The score whose record is at `path`.

    Raises UserError when there is none, it has no such metric, or the samples beside it are of
    another run. The mean of a score that is not right or wrong may be weighted, and is not checked.
    """
    record = read_record(path)
    if step := record.get("diverged"):
        raise UserError(f"{path}: the training diverged at step {step}: it has no score to compare.")
    if metric not in record["metrics"]:
        raise unknown("metric", metric, record["metrics"], str(path))
    samples = paths.samples(path)
    rows, scores = read_items(samples, metric)
    fact = record["metrics"][metric]
    off = is_binary(scores, measured(record, metric)) and len(scores) and abs(scores.mean() - fact["value"]) > 1e-9
    if not rows or len(rows) != fact["n"] or off:
        raise UserError(f"{samples}: its samples do not give the score {fact['value']} of {path}. Make both again.")
    return Scored(path, record, rows, scores)


def read_record(path: Path) -> ScoreRecord:
    """The record of a score. Raises UserError when it is missing, damaged, or of something else."""
    record: Any = read_json(path)
    if isinstance(record, dict) and {"spec", "metrics"} <= record.keys():
        return cast("ScoreRecord", record)
    raise UserError(f"{path}: not the record of a score. {FORMS}")


def measured(record: ScoreRecord, metric: str) -> Measure | None:
    """What the task file says of a metric of a record; None where this checkout has no such task file or metric."""
    task = (stage(record["spec"], "generate") or {}).get("task")
    return measure_of(task, metric) if task in task_files.names() and metric in task_files.metrics(task) else None


def is_binary(scores: np.ndarray, shown: Measure | None) -> bool:
    """Whether every item is right (1) or wrong (0): ratings may all be 1 and be neither. None: only the values tell."""
    percent = shown is None or shown.unit == PERCENT
    return percent and bool(np.isin(scores, (0.0, 1.0)).all())


def find(given: str, task: str | None = None) -> list[Path]:
    """The records that a word on the command line stands for: one, or one per seed in the order of seeds.

    task: which one of a folder; None for the only one. Raises UserError when nothing fits, or several.
    """
    path = Path(given)
    if path.name.endswith(paths.SAMPLES):
        path = path.with_name(path.name.removesuffix(paths.SAMPLES) + ".json")
    if path.suffix == ".json":
        return [path]
    folders = [path] if path.is_dir() else seeds_of(path)
    if not folders:
        raise UserError(f"{given}: no such score. {FORMS}")
    tasks = sorted({task for folder in folders for task in paths.Cell(folder).scored()})
    if task is None and len(tasks) != 1:
        raise UserError(f"{given}: {len(tasks)} scored tasks ({', '.join(tasks) or 'none'}). Choose one with --task.")
    if task is not None and task not in tasks:
        raise unknown("task", task, tasks, given)
    records = [paths.Cell(folder).score(task or tasks[0]) for folder in folders]
    return [record for record in records if record.is_file()]


def seeds_of(path: Path) -> list[Path]:
    """The folders <path>-s<seed>, in the order of seeds."""
    siblings = path.parent.iterdir() if path.parent.is_dir() else ()
    matches = [(re.fullmatch(re.escape(path.name) + r"-s(\d+)", folder.name), folder) for folder in siblings]
    return [folder for _, folder in sorted((int(match[1]), folder) for match, folder in matches if match)]


def stage(spec: Any, name: str) -> dict[str, Any] | None:
    """The spec of a stage within the spec of a later one; None where that stage did not run."""
    if not isinstance(spec, dict):
        return None
    if spec.get("stage") == name:
        return spec
    return next(filter(None, (stage(value, name) for value in spec.values())), None)


def seed(record: ScoreRecord) -> int | None:
    """The seed of the cell's training; None without a training."""
    return (stage(record["spec"], "train") or {}).get("seed")


def display(score: Scored) -> str:
    """A cell in words: method, base, rank and learning rate; what is known of one that was trained elsewhere."""
    record = score.record
    train, init = stage(record["spec"], "train"), stage(record["spec"], "init")
    if adopted := stage(record["spec"], "adopt"):
        home = paths.cell_of(score.path)
        words = [f"{home.folder.name} ({ELSEWHERE})"]
        words += [f"{adopted['quant']} base"] if adopted["quant"] != "none" else []
        return ", ".join([*words, f"rank {read_json(home.train)['rank']}"])
    if base := stage(record["spec"], "base"):
        return "base model" + (f", {base['quant']} base" if base["quant"] != "none" else "")
    if train is None:
        return "without training"
    known = train["method"] in methods.names()
    words = [methods.display(train["method"], train["quant"]) if known else train["method"]]
    words += [f"{key}={value}" for key, value in (_options(init, train) | _fields(init) | train["lora"]).items()]
    words += [f"{train['quant']} base"] if train["quant"] != "none" else []
    words += [f"rank {init['rank']}"] if init else []
    return ", ".join([*words, f"learning rate {train['learning_rate']:g}"])


def displays(a: Scored, b: Scored) -> list[str]:
    """Two cells in words. Where these are the same, also the settings of a method in which the cells differ."""
    words, settings = [display(a), display(b)], [_replaced(a.record), _replaced(b.record)]
    if words[0] != words[1]:
        return words
    differ = [key for key in settings[0] if settings[0][key] != settings[1].get(key)]
    return [", ".join([words[0], *(f"{k}={own[k]}" for k in differ if k in own)]) for own in settings]


def _replaced(record: ScoreRecord) -> dict[str, Any]:
    """The settings of a cell's training that the fields of its method may have replaced; none without a start."""
    train, init = stage(record["spec"], "train"), stage(record["spec"], "init")
    if train is None or init is None:
        return {}
    return {key: (init if key in init else train["settings"]).get(key) for key in REPLACED}


def _fields(init: dict[str, Any] | None) -> dict[str, Any]:
    """The LoraConfig fields of a method that decide its start; a spec holds patterns as pairs."""
    given = (init or {}).get("lora", {})
    return {key: dict(value) if key in PATTERNS else value for key, value in given.items()}


def _options(init: dict[str, Any] | None, train: dict[str, Any]) -> dict[str, Any]:
    """The options of a start and of its training that are not the method's default ones."""
    if init is None or init["method"] not in methods.names():
        return {}
    default = methods.options(init["method"], init["quant"], {}, "spec") | methods.training_options(init["method"], {})
    given = init["options"] | train.get("options", {})
    return {key: value for key, value in given.items() if default.get(key) != value}
