"""What the report page shows: the numbers of scores.csv and of the tables, and every run in a state."""

import json
import shutil

import pytest
from recorded import ITEMS, right
from reported import Made

from pissa_repro.report.page.data import gather
from pissa_repro.report.page.files import files
from pissa_repro.report.page.items import answered
from pissa_repro.report.tables.sweep import table
from pissa_repro.results.table import COLUMNS as SCORES
from pissa_repro.results.table import rows
from pissa_repro.runtime import paths
from pissa_repro.runtime.record import read_json, write_csv, write_json


@pytest.fixture(scope="module")
def told(made) -> dict:
    return gather(made.sweep, made.results)


def test_the_numbers_are_those_of_the_table(made, told):
    write_csv(paths.scores(made.results), SCORES, rows(made.sweep, made.results))
    shown = table(made.sweep, made.results)
    paths.scores(made.results).unlink()
    assert len(shown.rows) == len(told["settings"]) == 5
    for row, setting in zip(shown.rows, told["settings"], strict=True):
        assert {key: row[key] for key in shown.columns if row.get(key) is not None} == {
            key: setting[key] for key in shown.columns if key in setting
        }


def test_a_run_has_its_numbers_and_its_places(made, told):
    for setting in told["settings"]:
        assert len(setting["runs"]) == setting["of_seeds"] == setting["seeds"] == 2
    for run in told["runs"]:
        cell = made.sweep.cells[run["cell"]]
        assert run["value"] == pytest.approx(100 * right(cell, "gsm-mini") / ITEMS) and run["n"] == ITEMS
        assert paths.at(paths.cell(run["cell"]).score("gsm-mini"), made.results).is_file()
        assert run["record"] in run["command"] and run["commit"] == "c0ffee" and run["state"] == "done"
    assert told["states"] == {"done": 10}
    json.dumps(told, allow_nan=False)


def test_a_curve_is_the_mean_over_seeds_with_its_band(told):
    curve = told["curves"][told["settings"][1]["curve"]]
    assert curve["seeds"] == 2 and len(curve["steps"]) == len(curve["mean"]) == 24
    assert all(low < mean < high for low, mean, high in zip(curve["low"], curve["mean"], curve["high"], strict=True))


def test_nothing_is_dropped_of_half_a_sweep(tmp_path):
    """Two cells without a training, one that failed: counted, and the setting has no difference."""
    names = list(Made(_new(tmp_path, "names")).sweep.cells)
    lora = [name for name in names if "/lora-none-r16" in name]
    pissa = [name for name in names if "/pissa-none-r16" in name]
    made = Made(_new(tmp_path, "half"), skip=[lora[1], *pissa])
    log = paths.at(paths.log("train", lora[1]), made.results)
    log.parent.mkdir(parents=True)
    log.write_text("error: the disk is full\n", encoding="utf-8")
    told = gather(made.sweep, made.results)
    assert told["states"] == {"done": 7, "failed": 1, "missing": 2}
    settings = {(row["config_method"], row.get("rank")): row for row in told["settings"]}
    assert len(settings) == 5
    partly, none = settings["lora", 16], settings["pissa", 16]
    assert partly["state"] == "1 done, 1 failed" and (partly["seeds"], partly["of_seeds"]) == (1, 2)
    assert partly["score_mean"] and "diff_to_lora" not in partly
    assert none["state"] == "missing" and "score_mean" not in none and none["curve"] is None
    failed = told["runs"][partly["runs"][1]]
    assert "the disk is full" in failed["why"] and "value" not in failed and failed["log"].startswith("logs/train/")
    assert settings["pissa", 4]["diff_verdict"], "what is whole is compared"


def test_a_training_that_diverged_and_a_record_of_another_config_are_told(tmp_path):
    made = Made(_new(tmp_path, "made"))
    first, *_, last = made.sweep.cells
    home = paths.cell(first, made.results)
    write_json(home.train, {**read_json(home.train), "diverged": 7, "final_loss": None})
    score = {key: value for key, value in read_json(home.score("gsm-mini")).items() if key != "metrics"}
    write_json(home.score("gsm-mini"), {**score, "diverged": 7})
    other = paths.cell(last, made.results).score("gsm-mini")
    write_json(other, {**read_json(other), "spec": {}})
    told = gather(made.sweep, made.results)
    assert told["states"] == {"done": 8, "diverged": 1, "outdated": 1}
    assert told["settings"][0]["diverged"] == 1 and "score_mean" not in told["settings"][0]


def test_settings_of_other_seeds_are_not_compared(tmp_path):
    """As where an exhibit sweeps one method over more seeds than the config has."""
    made = Made(_new(tmp_path, "made"), ranks=[4])
    others = [name for name in made.sweep.cells if "/lora-" not in name or name.endswith("s0")]
    told = gather(made.sweep.only(others), made.results)
    assert told["states"] == {"done": 5}
    assert not any("diff_to_lora" in row for row in told["settings"]) and all(
        row["score_mean"] for row in told["settings"]
    )


@pytest.mark.parametrize("swept", [{"seeds": [0]}, {"cells": [{"method": "lora", "quant": "none"}]}])
def test_one_seed_and_one_method(tmp_path, swept):
    made = Made(_new(tmp_path, "made"), **swept)
    told = gather(made.sweep, made.results)
    assert all(row["state"] == "done" and row["score_mean"] for row in told["settings"])


def test_a_base_as_it_is_has_a_row_before_and_after_it_is_scored(tmp_path):
    made = Made(_new(tmp_path, "made"), bases=["none"], ranks=[4], seeds=[0])
    (name, base), first = next(iter(made.sweep.others.items())), next(iter(made.sweep.cells))
    told = gather(made.sweep, made.results)
    assert told["states"] == {"done": 3, "missing": 1} and told["settings"][0]["state"] == "missing"
    home, other = paths.cell(name, made.results), paths.cell(first, made.results)
    shutil.copytree(other.score("gsm-mini").parent, home.score("gsm-mini").parent)
    train = {**read_json(other.train), "spec": made.sweep.trained_spec(base), "trainable_parameters": 0}
    write_json(home.train, train)
    write_json(
        home.score("gsm-mini"),
        {**read_json(other.score("gsm-mini")), "spec": made.sweep.evaluate_spec(base, "gsm-mini")},
    )
    told = gather(made.sweep, made.results)
    row = told["settings"][0]
    assert told["states"] == {"done": 4} and row["score_mean"] == told["settings"][1]["score_mean"]
    assert told["runs"][row["runs"][0]]["seed"] is None and "diff_to_lora" not in row


def test_a_start_on_a_quantized_base_has_its_error(tmp_path):
    made = Made(_new(tmp_path, "made"), cells=[{"method": method, "quant": "nf4"} for method in ("lora", "pissa")])
    told = gather(made.sweep, made.results)
    assert [row["errors"] for row in told["settings"]] == 4 * [{"avg": 12.5}]
    assert all(row["error_reduction_percent"] == 12.5 for row in told["settings"])


def test_the_rate_that_validation_items_choose_has_a_difference_of_its_own(tmp_path):
    """As the table's part at the best rates, and in one family with the others: here all choose the smaller rate."""
    tasks = ["gsm-mini", "gsm-mini-validation"]
    made = Made(_new(tmp_path, "made"), over="rates.yaml", tasks=tasks, ranks=[4], learning_rates=[0.003, 0.01])
    told = gather(made.sweep, made.results)
    chosen = [row for row in told["settings"] if "tuned" in row]
    assert {row["task"] for row in chosen} == {"gsm-mini"} and {row["learning_rate"] for row in chosen} == {0.003}
    for key in ("diff_to_lora", "diff_p_holm"):
        assert [row["tuned"].get(key) for row in chosen] == [row.get(key) for row in chosen]
    assert len(chosen) == 3 and sum("diff_to_lora" in row["tuned"] for row in chosen) == 2


@pytest.mark.parametrize(
    ("file", "target", "said", "read"),
    [
        ("gsm8k", "#### 7", "so\nThe answer is: 1,200.", "1200"),
        ("gsm8k", "#### 7", "seven", None),
        ("commonsense", "answer2", "the correct answer is answer1", "answer1"),
        ("math", "7", "The answer is: $\\frac12$", "$\\frac12$"),
        ("humaneval", "", "def f(): pass", None),
    ],
)
def test_an_item_says_what_the_rule_reads(file, target, said, read):
    row = {"id": 0, "prompt": "q", "target": target, "generated": said, "paper": 0.0}
    assert [*answered(file, [row])] == [[said, read, 0.0]]


@pytest.mark.parametrize("file", ["train.json", "eval/gsm-mini.json"])
def test_a_record_that_was_deleted_after_the_table_is_missing(tmp_path, file):
    made = Made(_new(tmp_path, "made"))
    write_csv(paths.scores(made.results), SCORES, rows(made.sweep, made.results))
    (paths.cell(next(iter(made.sweep.cells)), made.results).folder / file).unlink()
    told = gather(made.sweep, made.results)
    assert told["states"] == {"done": 9, "missing": 1} and told["runs"][0]["state"] == "missing"


def test_tables_and_figures_that_are_there_are_found(tmp_path):
    names = ["results/scores.csv", "results/gsm8k_table.csv", "results/gsm8k_table.md", "results/paper/table8.csv"]
    names += ["figures/paper/figure14.svg", "figures/paper/figure14.png", "figures/extra/depth.svg"]
    assert files(_new(tmp_path, "results")) == {}
    for name in [*names, "results/cells/a/table.csv", "figures/README.md"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = files(tmp_path / "results")
    assert sorted(name for some in found.values() for name in some) == sorted(names)
    assert [*found] == ["scores", "gsm8k_table", "paper/table8", "extra/depth", "paper/figure14"]


def test_no_results(tmp_path, made):
    told = gather(made.sweep, _new(tmp_path, "results"))
    assert told["states"] == {"missing": 10} and not told["curves"]


def _new(folder, name):
    (folder / name).mkdir()
    return folder / name
