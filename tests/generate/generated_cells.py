"""What tests of generation share: the lines of a journal, records that may be compared, other tasks."""

import json

from pissa_repro.runtime.record import write_lines
from pissa_repro.scoring.generator import Job

ITEMS = 24


def items(path):
    """The (item, turn) of every line, repetitions included."""
    lines = [json.loads(line) for line in path.read_text().split("\n") if line] if path.exists() else []
    return [(line["id"], line["turn"]) for line in lines if "id" in line]


def comparable(record):
    """A score's record without what time and process decide."""
    return {key: value for key, value in record.items() if key not in ("provenance", "generated")}


def other_task(run, folder, task, rows, fields, new=16):
    """A run of the same cell whose task is another file on other rows."""
    path = folder / "other.jsonl"
    write_lines(path, rows)
    config = json.loads(json.dumps(run.sweep.config))
    config["datasets"]["other"] = {"path": str(path), "fields": {name: name for name in fields}}
    config["tasks"]["other"] = {"task": task, "dataset": "other", "max_new_tokens": new}
    spec = type(run.sweep)(config).generate_spec(run.cell, "other")
    return Job("other", spec, run.start, run.trained, path, folder / "other.generated.jsonl")
