"""Scoring without a model: what it needs, and the rules of today on answers of yesterday."""

import json
import shutil

import pytest
from commands import pissa
from generated_cells import ITEMS
from helpers import counted, scored_rows
from stage import says

from pissa_repro.model import load
from pissa_repro.runtime.record import read_json, read_lines, write_lines
from pissa_repro.stages import evaluate


def test_scoring_says_what_is_missing(fresh):
    fresh.evaluate()
    argv = fresh.evaluate_argv()
    without = [w for n, w in enumerate(argv) if not {w, argv[n - 1]} & {"--trained", "--model"}]
    lines = fresh.generated.read_text(encoding="utf-8").splitlines(keepends=True)
    fresh.generated.write_text("".join(lines[:-5]), encoding="utf-8")  # four items, and the end of the run
    says(lambda: evaluate.main(without), f"4 of {ITEMS} items are not generated yet", "results/generated")
    fresh.generated.unlink()
    says(lambda: evaluate.main(without), "no generations")
    other = [w.replace('"max_new_tokens":12', '"max_new_tokens":13') for w in without]
    fresh.generated.write_text("".join(lines), encoding="utf-8")
    says(lambda: evaluate.main(other), "generated from another spec")


def test_rescoring_applies_the_rules_of_today_without_a_model(fresh, tmp_path, monkeypatch):
    """A record of an older rule, moved to another place: scores change, generations and their origin do not."""
    folder = tmp_path / "results" / "cells" / "m" / "d" / "c" / "eval"
    folder.mkdir(parents=True)
    record = fresh.evaluate()
    (tmp_path / "results" / "fetch" / "data").mkdir(parents=True)
    shutil.copy(fresh.rows, tmp_path / "results" / "fetch" / "data" / "rows.jsonl")
    samples = read_lines(fresh.folder / "task.samples.jsonl")
    samples[3] |= {"generated": f"The answer is: {samples[3]['target'].rpartition(' ')[2]}", "paper": 0.0}
    write_lines(folder / "task.samples.jsonl", samples)
    (folder / "task.json").write_text(json.dumps(record | {"spec": record["spec"] | {"version": 0}}), encoding="utf-8")
    loaded = counted(monkeypatch, load, "load_base")
    pissa("rescore", folder / "task.json")
    again = read_json(folder / "task.json")
    assert not loaded and again["spec"] == record["spec"] and again["generated"] == record["generated"]
    assert again["metrics"]["paper"]["value"] == pytest.approx(record["metrics"]["paper"]["value"] + 1 / ITEMS)
    assert read_lines(folder / "task.samples.jsonl")[3]["paper"] == 1
    shutil.rmtree(tmp_path / "results" / "fetch")
    says(lambda: pissa("rescore", folder / "task.json"), "no rows with the hash", "--data")


def test_a_score_needs_its_arguments(fresh, capsys):
    with pytest.raises(SystemExit):
        evaluate.main(["--data", str(fresh.rows)])
    assert "the following arguments are required: --spec" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        evaluate.main([word for word in fresh.evaluate_argv() if word not in ("--model", str(fresh.model))])
    assert "--model and --trained go together" in capsys.readouterr().err


def test_rescoring_on_other_rows_is_refused(fresh, tmp_path):
    fresh.evaluate()
    other = scored_rows(tmp_path, ITEMS)
    says(lambda: pissa("rescore", fresh.folder / "task.json", "--data", other), "other rows")
