"""The sweep's tables on a results folder made by hand: every number here is invented for the test."""

import copy
import json

import numpy as np
import pytest
import tabled
from tabled import ITEMS, answers, make, run, with_validation

from pissa_repro.paper import identity
from pissa_repro.plan.config import ROOT, load
from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.tables.sweep import COLUMNS
from pissa_repro.results import stats
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError
from pissa_repro.stages import table as stage_table


@pytest.fixture(scope="module")
def embedded(tmp_path_factory, config):
    return run(tmp_path_factory.mktemp("embedded"), config)


def test_one_row_a_method_in_the_configs_order(embedded):
    rows, _ = embedded
    assert list(rows[0]) == list(COLUMNS)
    assert [row["method"] for row in rows] == ["full FT", "LoRA", "PiSSA", "QLoRA", "LoftQ", "QPiSSA"]
    assert [row["rank"] for row in rows] == ["", "16", "16", "16", "16", "16"]
    assert {(row["seeds"], row["n"], row["learning_rate"], row["task"]) for row in rows} == {
        ("3", "200", "0.003", "gsm-mini")
    }


def test_a_caption_says_how_many_items_were_trained_on(tmp_path, config, embedded, monkeypatch):
    """Case 21: the most of any row; nothing where there are none."""
    known = tabled.facts_of
    monkeypatch.setattr(tabled, "facts_of", lambda *cell: known(*cell) | {"seen_in_training": 12})
    said = "Of these items, 12 have a prompt that the training data have, too"
    assert said in run(tmp_path, config)[1] and "Of these items" not in embedded[1]


def test_seeds_are_aggregated(embedded, config):
    row = embedded[0][2]
    sweep = Sweep(config)
    scores = np.stack([answers(c) for c in sweep.cells.values() if (c.method, c.quant) == ("pissa", "none")])
    means = 100 * scores.mean(axis=1)
    assert float(row["score_mean"]) == pytest.approx(means.mean(), rel=1e-5)
    assert float(row["score_std"]) == pytest.approx(means.std(ddof=1), rel=1e-5)
    assert float(row["score_stderr_items"]) == pytest.approx(100 * stats.stderr_items(scores), rel=1e-5)
    assert float(row["second_mean"]) < float(row["score_mean"])
    assert (float(row["final_loss_mean"]), float(row["final_loss_std"])) == pytest.approx((0.401, 0.001))
    assert (row["train_seconds_mean"], row["peak_memory_gib"]) == ("11", "3")
    assert (row["trainable_parameters"], row["commit"], row["dirty"]) == ("16000", "c0ffee", "False")


def test_each_row_is_compared_with_lora_on_its_own_base(embedded):
    rows, _ = embedded
    assert [row["diff_verdict"] for row in rows] == [
        "better", "reference", "better", "reference", "no difference shown", "worse"
    ]  # fmt: skip
    means = {row["method"]: float(row["score_mean"]) for row in rows}
    for method, base in (("full FT", "LoRA"), ("PiSSA", "LoRA"), ("LoftQ", "QLoRA"), ("QPiSSA", "QLoRA")):
        row = next(row for row in rows if row["method"] == method)
        assert float(row["diff_to_lora"]) == pytest.approx(means[method] - means[base], abs=1e-3)
        assert float(row["diff_low"]) <= float(row["diff_to_lora"]) <= float(row["diff_high"])


def test_missing_numbers_are_empty_and_zero_is_zero(embedded):
    rows, _ = embedded
    assert [row["error_reduction_percent"] for row in rows] == ["", "", "", "0", "5", "15.5"]
    for row in rows:
        assert (row["paper_value"], row["paper_std"], row["verdict"]) == ("", "", "not comparable")
        assert row["note"] == "no `paper:` in the config says that gsm-mini (generated) is a benchmark of the paper"


def test_the_markdown_says_what_the_data_say(embedded):
    _, text = embedded
    assert "- PiSSA against LoRA (rank 16): accuracy +" in text
    assert "better; final loss lower by 0.2000 on average, lower in 3 of 3 seeds." in text
    assert "- QPiSSA against QLoRA (rank 16, nf4): accuracy -" in text
    assert "worse; final loss higher by 0.1000 on average, lower in 0 of 3 seeds." in text
    assert "final loss equal to four digits on average" in text
    assert "No published numbers beside these: no `paper:` in the config says that gsm-mini (generated) is a" in text
    assert "200 items of gsm-mini (generated)" in text
    assert "paired bootstrap over items and seeds, widened for few seeds." in text
    assert "| verdict |" not in text
    assert "None" not in text
    assert "nan" not in text


def test_columns_without_an_error_over_items_are_named(embedded, tmp_path, config):
    assert "Without an error over items: strict, error reduction, time." in embedded[1]
    _, text = run(tmp_path, config, seeds=[0], cells=[{"method": "pissa", "quant": "none"}])
    assert "Without an error over items: strict, time." in text


def test_the_grid_is_a_rectangle(embedded):
    lines = [line for line in embedded[1].splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 6
    assert len({line.count("|") for line in lines}) == 1


def test_the_table_goes_to_stdout_and_a_second_run_writes_the_same_bytes(tmp_path, config, capsys):
    arguments = make(tmp_path, config, seeds=[0, 1])
    stage_table.main(arguments)
    first = (tmp_path / "out.csv").read_bytes(), (tmp_path / "out.md").read_bytes()
    assert capsys.readouterr().out.strip() == first[1].decode().strip()
    stage_table.main(arguments)
    assert ((tmp_path / "out.csv").read_bytes(), (tmp_path / "out.md").read_bytes()) == first


def test_one_seed_has_no_spread_and_says_so(tmp_path, config):
    rows, text = run(tmp_path, config, seeds=[0])
    assert {(row["score_std"], row["final_loss_std"], row["second_std"]) for row in rows} == {("", "", "")}
    assert "±" not in text
    assert "One seed: the spread over seeds is not measured." in text
    assert "paired bootstrap over items." in text


@pytest.mark.parametrize("seeds", [[0], [0, 1]])
def test_of_items_that_score_alike_no_error_is_said(tmp_path, config, seeds):
    wrong = ([0.0] * ITEMS, 0.0)
    _, text = run(tmp_path, config, scored=lambda cell, task: {"paper": wrong, "strict": wrong}, seeds=seeds)
    assert "not known: all items score alike" in text and "about 0.0 points" not in text


def test_full_fine_tuning_is_compared_with_the_largest_rank(tmp_path, config):
    rows, text = run(tmp_path, config, ranks=[2, 8, 4], seeds=[0])
    assert [row["rank"] for row in rows if row["method"] == "LoRA"] == ["2", "8", "4"]
    assert sum(row["method"] == "full FT" for row in rows) == 1
    assert "- full FT against LoRA (of rank 8):" in text
    assert "- PiSSA against LoRA (rank 2):" in text


def test_each_learning_rate_has_its_own_part_and_none_is_chosen_on_the_test(tmp_path, config):
    rows, text = run(tmp_path, config, learning_rates=[2e-3, 2e-5], seeds=[0])
    assert len(rows) == 12
    assert text.index("### At the paper's learning rate, 2e-05") < text.index("### At learning rate 0.002")
    assert text.count("- PiSSA against LoRA") == 2
    assert 'There is no part "each method at its best learning rate"' in text
    assert "chosen on task" not in text


def test_a_validation_task_chooses_each_methods_rate(tmp_path, config, monkeypatch):
    """On validation items LoRA is best at the large rate, PiSSA at the small one; the test items say the opposite."""
    best = {"lora": 2e-3, "pissa": 2e-5}

    def invented(cell, task="gsm-mini"):
        good = (cell.learning_rate == best[cell.method]) == task.endswith("-validation")
        return (np.arange(ITEMS) < (150 if good else 50) + (cell.method == "lora")).astype(float)

    monkeypatch.setattr(tabled, "answers", invented)
    changed = with_validation(config)
    cells = [{"method": name, "quant": "none"} for name in best]
    tasks = ["gsm-mini", "gsm-mini-validation"]
    rows, text = run(tmp_path, changed, learning_rates=[2e-3, 2e-5], seeds=[0, 1], cells=cells, tasks=tasks)
    assert len(rows) == 8
    tuned = text.split("### Each method at its best learning rate, chosen on task gsm-mini-validation")[1].split("## ")[
        0
    ]
    shown = [line.split(" | ")[:8] for line in tuned.splitlines() if line.startswith(("| LoRA", "| PiSSA"))]
    assert [(cells[0], cells[4], cells[7]) for cells in shown] == [
        ("| LoRA", "0.002", "25.50 ± 0.00"),
        ("| PiSSA", "2e-05", "25.00 ± 0.00"),
    ]
    assert "- PiSSA against LoRA (rank 16, at rate 2e-05 against 0.002): accuracy -0.50 points" in tuned
    assert "own learning rate" in tuned
    assert "There is no part" not in text


def test_without_lora_there_is_no_difference(tmp_path, config):
    rows, text = run(tmp_path, config, cells=[{"method": "pissa", "quant": "none"}], seeds=[0, 1])
    assert (rows[0]["diff_to_lora"], rows[0]["diff_verdict"]) == ("", "")
    assert "against" not in text.split("score_stderr_items")[0]


def test_the_reference_is_plain_lora_whatever_its_name(tmp_path, config):
    changed = copy.deepcopy(config)
    changed["methods"] = {"lora": {"init": "pissa"}, "full": {"init": "lora", "display": "mine"}}
    changed["methods"]["pissa"] = {"init": "lora", "lora": {"use_dora": True}, "display": "DoRA"}
    cells = [{"method": name, "quant": "none"} for name in ("full", "lora", "pissa")]
    rows, _ = run(tmp_path, changed, cells=cells, seeds=[0, 1])
    assert [row["method"] for row in rows] == ["mine", "PiSSA (lora)", "DoRA"]
    assert [row["diff_verdict"] == "reference" for row in rows] == [True, False, False]
    assert [bool(row["diff_to_lora"]) for row in rows] == [False, True, True]


def test_on_the_papers_benchmark_the_published_numbers_are_shown(tmp_path):
    paper = load(ROOT / "config/config.yaml", ROOT / "config/paper.yaml")
    rows, text = run(tmp_path, paper, models=["llama-2-7b"], seeds=[0, 1])
    assert [row["paper_value"] for row in rows] == ["49.13", "43.23", "53.22", "39.8", "40.71", "49.13"]
    assert [row["paper_std"] for row in rows] == ["0.21", "0.64", "0.55", "", "", ""]
    assert {row["verdict"] for row in rows} == {"not comparable"}  # 200 items are not GSM8K
    assert "200 items, the benchmark has 1319" in rows[0]["note"]
    assert "| paper, % | verdict |" in text
    assert "### At the paper's learning rate, 2e-05" in text


@pytest.mark.parametrize(
    ("sha256", "words"),
    [
        (None, {"differs, as declared in the config", "undecided, as declared in the config", "not comparable"}),
        (identity.known("tests")["gsm8k"]["sha256"][0], {"differs", "undecided", "not comparable"}),
        ("0" * 64, {"not comparable"}),
    ],
)
def test_the_hash_of_the_fetched_rows_reaches_the_verdict(tmp_path, monkeypatch, sha256, words):
    """Case 9: test rows from a file are GSM8K's if the record of the fetch says so."""
    monkeypatch.setattr(tabled, "ITEMS", 1319)
    paper = load(ROOT / "config/config.yaml", ROOT / "config/paper.yaml")
    fields = {"prompt": "question", "response": "answer"}
    paper["datasets"]["gsm8k-test"] = {"path": "rows.jsonl", "fields": fields}
    if sha256:
        record = paths.data("gsm8k-test", tmp_path)
        record.parent.mkdir(parents=True)
        record.write_text(json.dumps({"sha256": sha256}), encoding="utf-8")
    rows, _ = run(tmp_path, paper, models=["llama-2-7b"], seeds=[0, 1])
    assert {row["verdict"] for row in rows} == words


def test_a_missing_score_is_refused(tmp_path, config):
    arguments = make(tmp_path, config, only=lambda row: (row["method"], row["seed"]) != ("loftq", 1))
    with pytest.raises(UserError, match=r"no 'paper' score of .*loftq-nf4-r16-lr0.003-s1 on gsm-mini"):
        stage_table.main(arguments)
    assert not (tmp_path / "out.csv").exists()


def test_samples_of_another_run_are_refused(tmp_path, config):
    arguments = make(tmp_path, config, seeds=[0])
    path = next(tmp_path.glob("cells/*/*/pissa-none-*/eval/*.samples.jsonl"))
    path.write_text(path.read_text(encoding="utf-8").replace('"paper": 0.0', '"paper": 1.0', 1), encoding="utf-8")
    with pytest.raises(UserError, match="do not give the score"):
        stage_table.main(arguments)


def test_other_items_are_refused_and_both_cells_named(tmp_path, config):
    arguments = make(tmp_path, config, seeds=[0])
    path = next(tmp_path.glob("cells/*/*/pissa-none-*/eval/*.samples.jsonl"))
    path.write_text("".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:-1]), encoding="utf-8")
    with pytest.raises(UserError, match=r"pissa-none-.* \(199 items\) and .*full-none-.* \(200\)"):
        stage_table.main(arguments)


@pytest.mark.parametrize("missing", ["scores.csv", "cells"])
def test_missing_files_are_named(tmp_path, config, missing):
    arguments = make(tmp_path, config, seeds=[0])
    (tmp_path / missing).rename(tmp_path / "away")
    with pytest.raises(UserError, match="no such"):
        stage_table.main(arguments)


def test_an_unknown_table_names_those_that_exist(tmp_path, config):
    arguments = make(tmp_path, config, seeds=[0])
    arguments[arguments.index("gsm8k_table")] = "math_table"
    with pytest.raises(UserError, match="unknown table 'math_table'.*gsm8k_table"):
        stage_table.main(arguments)
