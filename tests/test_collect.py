"""Collecting records: what belongs together, and what is refused."""

import csv
from pathlib import Path

import pytest

from pissa_repro.plan.sweep import Sweep
from pissa_repro.results.records import Fetched, differing
from pissa_repro.results.table import code
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import canonical, write_json
from pissa_repro.stages import collect


@pytest.fixture
def fetched(tmp_path) -> Fetched:
    write_json(tmp_path / "fetch/models/m.json", {"fingerprint": "a" * 64})
    write_json(tmp_path / "fetch/data/d.json", {"sha256": "b" * 64})
    return Fetched(tmp_path)


def record(weights: str = "a", rows: str = "b") -> dict:
    return {"base": {"fingerprint": weights * 64}, "data_sha256": rows * 64}


def test_a_record_of_the_present_weights_and_rows_passes(fetched):
    fetched.compare(Path("train.json"), record(), "m", "d")


@pytest.mark.parametrize(
    ("changed", "words"), [({"weights": "c"}, "other weights of m"), ({"rows": "c"}, "other rows of d")]
)
def test_a_record_of_other_weights_or_rows_is_refused(fetched, changed, words):
    with pytest.raises(UserError, match=words):
        fetched.compare(Path("train.json"), record(**changed), "m", "d")


def test_differences_name_the_place_and_both_values():
    wanted, found = {"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": 4}
    assert list(differing(wanted, found)) == [
        "spec.a.c is 3, the config says 2",
        "spec.d is 4, the config says None",
    ]


def test_two_commits_are_both_named():
    def made(commit, dirty):
        return {"git": {"commit": commit, "dirty": dirty}}

    assert code(made("x", False), made("x", False)) == {"commit": "x", "dirty": False}
    assert code(made("x", False), made("y", True)) == {"commit": "x y", "dirty": True}
    assert code(made(None, None)) == {"commit": "unknown", "dirty": True}


TEXT = {  # full fine-tuning of one model, scored on a text
    "models": {"m": {"path": "m"}},
    "datasets": {
        "d": {"path": "d.jsonl", "fields": {"prompt": "q", "response": "a"}},
        "text": {"path": "t.jsonl", "fields": {"text": "text"}},
    },
    "train": {"epochs": 1, "batch_size": 2, "max_length": 8, "dtype": "float32", "target_modules": ["q_proj"]},
    "tasks": {"text": {"task": "perplexity", "dataset": "text", "max_new_tokens": 1}},
    "sweep": {
        "models": ["m"], "datasets": ["d"], "cells": [{"method": "full", "quant": "none"}], "ranks": [4],
        "learning_rates": [0.01], "seeds": [0], "tasks": ["text"],
    },
}  # fmt: skip


def test_all_metrics_are_collected_as_recorded_and_one_without_an_error_has_none(tmp_path):
    sweep = Sweep(TEXT)
    (cell,) = sweep.cells.values()
    made = {"git": {"commit": "x", "dirty": False}, "memory_bytes": 1, "gpu_memory_bytes": None}
    base = {"base": {"fingerprint": "a" * 64}, "provenance": made}
    metrics = {
        "paper": {"value": 2.25, "stderr": 0.125, "n": 3},
        "perplexity": {"value": 9.5, "stderr": None, "n": 3},
    }
    write_json(tmp_path / "fetch/models/m.json", {"fingerprint": "a" * 64})
    write_json(tmp_path / "fetch/data/d.json", {"sha256": "b" * 64})
    write_json(tmp_path / "fetch/data/text.json", {"sha256": "c" * 64})
    numbers = {"final_loss": 0.5, "trainable_parameters": 7, "train_seconds": 1.0}
    weights = {"trained_sha256": {"model.safetensors": "d" * 64}}
    train = base | numbers | weights | {"spec": sweep.train_spec(cell), "data_sha256": "b" * 64}
    write_json(tmp_path / "cells" / cell.name / "train.json", train)
    score = base | {"spec": sweep.evaluate_spec(cell, "text"), "data_sha256": "c" * 64, "metrics": metrics}
    score |= weights | {"generated": {"runs": [made]}, "seen_in_training": 2}
    write_json(tmp_path / "cells" / cell.name / "eval/text.json", score)
    arguments = ["--config", canonical(sweep.config), "--results", tmp_path, "--out", tmp_path / "scores.csv"]
    collect.main([str(word) for word in arguments])
    with open(tmp_path / "scores.csv", newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    rows = [(row["metric"], row["value"], row["stderr"], row["n"]) for row in found]
    assert [row["seen_in_training"] for row in found] == ["2", "2"]
    assert rows == [("paper", "2.25", "0.125", "3"), ("perplexity", "9.5", "", "3")]
    other = {"trained_sha256": {"model.safetensors": "e" * 64}}
    write_json(tmp_path / "cells" / cell.name / "eval/text.json", score | other)
    with pytest.raises(UserError, match="other trained weights"):
        collect.main([str(word) for word in arguments])
