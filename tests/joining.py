"""Small results folders, as two machines leave them: a model, rows, and cells of full fine-tuning with their scores."""

from pathlib import Path

from pissa_repro.runtime import paths
from pissa_repro.runtime.record import content, read_json, sha256, write_json, write_lines

BATCH = "m/d/r4-lr0.01-s0-hf-float32-0"
TASK = {"spec": {"task": "gsm8k", "max_new_tokens": 8, "backend": "hf", "dtype": "float32"}, "rows": "t"}
FITTING = {"base": {"name": "m", "commit": None, "fingerprint": "f" * 64}}


def provenance(commit: str = "c0ffee", dirty: bool = False, torch: str = "2.9") -> dict:
    return {"provenance": {"git": {"commit": commit, "dirty": dirty}, "versions": {"torch": torch}, "seconds": 1.0}}


def save_results(results: Path, cells: list[str], **origin) -> Path:
    """A results folder with these cells, "a-s0", trained and scored in one batch. origin: of its provenance."""
    made = provenance(**origin)
    write_json(paths.model("m", results), {"fingerprint": "f" * 64, "path": f"/gone/{results.parent.name}", **made})
    for name in "dt":
        write_lines(paths.rows(name, results), [{"prompt": f"{name}?", "response": "#### 1"}])
        write_json(paths.data(name, results), {"sha256": sha256(paths.rows(name, results)), "rows": 1, **made})
    for name in cells:
        save_cell(results, name, made)
    asked = {f"m/d/{name}": {"train": {"method": name}, "start": None} for name in cells}
    spec = {"version": 1, "backend": "hf", "cells": asked, "tasks": {"task": TASK}}
    rows = {"t": sha256(paths.rows("t", results))}
    mark = {"spec": spec, **FITTING, "jobs": [f"{name} task" for name in asked], "data_sha256": rows, "refused": {}}
    write_json(paths.batch(BATCH, results), {**mark, **made})
    return results


def save_cell(results: Path, name: str, made: dict) -> None:
    """A trained cell with its score, what it has generated, and weights of its own."""
    home = paths.cell(f"m/d/{name}", results)
    home.trained.mkdir(parents=True)
    (home.trained / "model.safetensors").write_bytes(name.encode() * 100)
    (home.trained / ".snakemake_timestamp").touch()
    write_json(home.trained / "config.json", {"model_type": "llama"})
    home.steps.write_text("step,loss\n1,0.5\n", encoding="utf-8")
    train = {"spec": {"stage": "train", "method": name}, **FITTING, "start_sha256": None, "final_loss": 0.5, **made}
    train |= {"data_sha256": sha256(paths.rows("d", results)), "trained_sha256": content(home.trained)}
    write_json(home.train, train)
    write_lines(home.generated / "task-1.jsonl", [{"spec": {}}, {"id": 0, "generated": name}])
    score = {key: train[key] for key in ("base", "trained_sha256", "provenance")}
    score |= {"spec": {"stage": "evaluate", "generate": {"train": train["spec"]}}, "metrics": {"paper": {"value": 0.5}}}
    write_json(home.score("task"), {**score, "data_sha256": sha256(paths.rows("t", results))})
    write_lines(home.samples("task"), [{"id": 0, "prompt": "t?", "paper": 1}])


def edited(record: Path, **changes) -> None:
    """Write a record again with changes."""
    write_json(record, {**read_json(record), **changes})
