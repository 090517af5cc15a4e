"""What tests of generation share: the lines of a journal, records that may be compared, other tasks."""

import json
import shutil

from pissa_repro.plan.batches import Batches
from pissa_repro.runtime.record import content, read_json, write_json, write_lines
from pissa_repro.scoring.generator import Job

ITEMS = 24


def items(path):
    """The (item, turn) of every line, repetitions included."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line] if path.exists() else []
    return [(line["id"], line["turn"]) for line in lines if "id" in line]


def comparable(record):
    """A score's record without what time and process decide."""
    return {key: value for key, value in record.items() if key not in ("provenance", "generated")}


def trained_copy(run, folder, source=None):
    """Trained weights, or those of another folder, in a cell's folder of their own with the record of the training."""
    shutil.copytree(source or run.trained, folder / "trained")
    shutil.copy(run.record, folder / "train.json")
    return folder / "trained"


def as_swept(run, results):
    """The cell as the folders of a sweep have it. Returns its batch's name, its folder, and the stage's arguments."""
    (name,) = Batches(run.sweep).by_name
    cell = results / "cells" / run.cell.name
    trained_copy(run, cell)
    shutil.copytree(run.start, results / "init" / run.cell.start)
    rows = results / "fetch" / "data" / "rows.jsonl"
    rows.parent.mkdir(parents=True)
    shutil.copy(run.rows, rows)
    spec = json.dumps(Batches(run.sweep).spec(name))
    return name, cell, ["--spec", spec, "--model", str(run.model), "--results", str(results)]


def recorded(run, trained):
    """Let the record beside a folder tell of what is in it, as if a training had left it so."""
    record = read_json(trained.with_name("train.json"))
    write_json(trained.with_name("train.json"), record | {"trained_sha256": content(trained)})


def other_task(run, folder, task, rows, fields, new=16):
    """A run of the same cell whose task is another file on other rows."""
    path = folder / "other.jsonl"
    write_lines(path, rows)
    config = json.loads(json.dumps(run.sweep.config))
    config["datasets"]["other"] = {"path": str(path), "fields": {name: name for name in fields}}
    config["tasks"]["other"] = {"task": task, "dataset": "other", "max_new_tokens": new}
    spec = type(run.sweep)(config).generate_spec(run.cell, "other")
    return Job("other", spec, run.start, run.trained, path, folder / "other.generated.jsonl")
