"""Admit a model folder to a sweep of one cell, in this process."""

from pathlib import Path

from helpers import config, scored_rows
from stage import LLAMA

from pissa_repro.admission.admit import admit
from pissa_repro.plan import admission
from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime import paths
from pissa_repro.runtime.record import write_lines

ATTENTION = LLAMA[:4]
GOOD = [{"prompt": f"What is {n} + 1?", "response": f"{n} + 1\nThe answer is: {n + 1}"} for n in range(6)]


def admitted(model: Path, folder: Path, train=GOOD, test=None, task="gsm8k", backend="hf", **changes) -> dict:
    """What is found of a model, its training rows and the rows of one task."""
    rows = folder / "results" / "fetch" / "data"
    rows.mkdir(parents=True, exist_ok=True)
    write_lines(paths.rows("rows", folder / "results"), train)
    if test is None:
        scored_rows(folder, 3).rename(paths.rows("test", folder / "results"))
    else:
        write_lines(paths.rows("test", folder / "results"), test)
    made = config(model, rows, changes.pop("method", "pissa"), "none", **changes)
    made["datasets"]["test"] = {
        "path": "test.jsonl",
        "fields": {role: role for role in ("prompt", "response", "text", "label")},
    }
    made["tasks"]["task"] |= {"dataset": "test", "backend": backend}
    spec = admission.spec(Sweep(made), "sweep", "tiny")
    spec["tasks"]["task"]["task"] = task  # its roles are what the rows say, not what the config's fields do
    return admit(str(model), spec, folder / "results")
