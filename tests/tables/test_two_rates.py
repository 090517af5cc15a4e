"""One rate for all beside each at its best, chosen on validation items alone; trainings that diverged are shown."""

import csv

import numpy as np
import pytest
from rated import RATES, RIGHT, TASKS, rated, scored
from stage import says

from pissa_repro.exhibits import output
from pissa_repro.plan import config as configs
from pissa_repro.report.tables.two_rates import COLUMNS
from pissa_repro.results import rates, rows, stats
from pissa_repro.stages import table as stage_table


def two(sweep, folder):
    """The rows of the table by method, and its text."""
    table = output(sweep, "table", "extra/two_rates").exhibit.make(sweep, folder)
    assert set(COLUMNS) >= {key for row in table.rows for key in row}
    return {row["config_method"]: row for row in table.rows}, table.markdown


def matrix(sweep, method, rate, task):
    cells = [cell for cell in sweep.cells.values() if (cell.method, cell.learning_rate) == (method, rate)]
    return np.array([scored(cell, task)["paper"][0] for cell in cells])


def test_both_columns_and_how_the_gap_changes(tmp_path, config):
    """Case 17 of seeds and items: the change is paired over both, and is the difference of the two gaps."""
    sweep, _ = rated(tmp_path, config)
    found, text = two(sweep, tmp_path)
    at = {name: matrix(sweep, name, 3e-3, "gsm-mini") for name in ("lora", "pissa")}
    best = {name: matrix(sweep, name, rate, "gsm-mini") for name, rate in (("lora", 1e-2), ("pissa", 3e-3))}
    gaps = [100 * (side["pissa"] - side["lora"]) for side in (best, at)]
    row, wanted = found["pissa"], stats.paired_bootstrap(*gaps)
    assert (row["common_rate"], row["best_rate"], row["best_reference_rate"]) == (3e-3, 3e-3, 1e-2)
    assert row["change"] == pytest.approx(row["best_difference"] - row["common_difference"]) == pytest.approx(-10)
    assert (row["change_low"], row["change_high"]) == pytest.approx((wanted.low, wanted.high))
    assert row["change_verdict"] == "falls" and found["lora"]["common_verdict"] == "reference"
    assert "- PiSSA against LoRA (rank 16): +15.00 [" in text and "the gap changes by -10.00 [" in text
    assert "Best: of the rates 0.001, 0.003, 0.01" in text and "Diverged" not in text
    assert found["lora"]["best_at_edge"] and not found["pissa"]["best_at_edge"]
    assert "0.01* |" in text and "None" not in text and "nan" not in text


def test_no_item_but_those_of_validation_is_read_before_the_rates_are_chosen(tmp_path, config, monkeypatch):
    """The test items would choose another rate for PiSSA; their files are opened after the choice."""
    sweep, _ = rated(tmp_path, config)
    read, choose, opened, before = rows.read_items, rates.chosen_rates, [], []
    monkeypatch.setattr(rows, "read_items", lambda path: opened.append(path.name) or read(path))
    monkeypatch.setattr(rates, "chosen_rates", lambda lines: before.extend(opened) or choose(lines))
    found, _ = two(sweep, tmp_path)
    assert set(before) == {f"{TASKS[1]}.samples.jsonl"} < set(opened)
    assert np.argmax(RIGHT["pissa"][1]) != np.argmax(RIGHT["pissa"][0])
    assert found["pissa"]["best_rate"] == RATES[np.argmax(RIGHT["pissa"][0])]


def test_the_scores_of_test_items_do_not_change_the_choice(tmp_path, config):
    def chosen(folder, order):
        sweep, _ = rated(folder, config, tasks=order)
        return {name: row["best_rate"] for name, row in two(sweep, folder)[0].items()}

    first = chosen(tmp_path / "a", TASKS)
    honest, RIGHT["pissa"] = RIGHT["pissa"], (RIGHT["pissa"][0], [1, 2, 199])
    try:
        assert chosen(tmp_path / "b", TASKS[::-1]) == first == {"lora": 1e-2, "pissa": 3e-3, "full": 3e-3}
    finally:
        RIGHT["pissa"] = honest


def test_where_both_have_the_same_best_rate_nothing_changes(tmp_path, config, monkeypatch):
    monkeypatch.setitem(RIGHT, "lora", ([60, 80, 70], [70, 90, 110]))
    found, text = two(rated(tmp_path, config)[0], tmp_path)
    assert (
        found["pissa"].get("change") is None
        and found["pissa"]["best_difference"] == found["pissa"]["common_difference"]
    )
    assert "points in both columns, because 0.003 is the best rate of both" in text


def test_a_rate_that_diverged_is_shown_and_never_chosen(tmp_path, config):
    """Its other seed would have been the best; a mean over that one alone would be of the lucky."""
    lost = [("pissa", 3e-3, 1), ("full", 1e-3, 0), ("full", 3e-3, 0), ("full", 1e-2, 0), ("full", 1e-2, 1)]
    found, text = two(rated(tmp_path, config, lost)[0], tmp_path)
    row = found["pissa"]
    assert (row["common_diverged"], row["common_score"], row["best_rate"]) == (1, None, 1e-2)
    assert row["diverged"] == "0.003: diverged (1 of 2 seeds)" and row.get("common_difference") is None
    assert found["full"].get("best_rate") is None and found["full"]["diverged"].count("of 2 seeds") == 3
    assert "| diverged (1 of 2 seeds) |" in text and "PiSSA at 0.003: diverged (1 of 2 seeds)" in text
    assert "nan" not in text


@pytest.mark.parametrize("lost", [[("lora", 3e-3, 0)], [("lora", 3e-3, 0), ("lora", 3e-3, 1)]])
def test_the_sweeps_table_has_no_mean_over_the_others(tmp_path, config, lost):
    _, arguments = rated(tmp_path, config, lost)
    stage_table.main(arguments)
    with open(tmp_path / "out.csv", newline="", encoding="utf-8") as file:
        found = [row for row in csv.DictReader(file) if row["task"] == "gsm-mini" and row["learning_rate"] == "0.003"]
    lora, pissa = (next(row for row in found if row["config_method"] == name) for name in ("lora", "pissa"))
    assert lora["diverged"] == str(len(lost)) and {lora[key] for key in ("score_mean", "final_loss_mean")} == {""}
    assert (pissa["diff_to_lora"], pissa["diff_verdict"], pissa["diverged"]) == ("", "the reference diverged", "")
    text = (tmp_path / "out.md").read_text(encoding="utf-8")
    assert f"| diverged ({len(lost)} of 2 seeds) |" in text and "Diverged: the loss or its gradient" in text
    assert "## One rate for all, and each method at its best" in text and "nan" not in text


def test_without_validation_or_a_common_rate_a_column_is_empty_and_says_why(tmp_path, config):
    found, text = two(rated(tmp_path, config, tasks=TASKS[:1], common_rate=None)[0], tmp_path)
    assert (
        {row.get("best_rate") for row in found.values()} == {row.get("common_rate") for row in found.values()} == {None}
    )
    assert "sweep.common_rate says none" in text and "would flatter" in text and "{" not in text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "Its change is paired in the same way, and takes the chosen rates as given"),
        ({"common_rate": None}, "It takes the chosen rates as given"),
        ({"tasks": TASKS[:1]}, ""),
    ],
)
def test_the_caption_explains_the_intervals_of_either_column(changes, said, tmp_path, config):
    _, text = two(rated(tmp_path, config, **changes)[0], tmp_path)
    assert (
        "at the same rate or each at its own, with a 95 % interval from a paired bootstrap over items and seeds" in text
    )
    assert said in text and text.count("rates as given") == bool(said)


def test_a_common_rate_is_one_of_the_swept(config):
    changed = {**config, "sweep": {**config["sweep"], "learning_rates": RATES, "common_rate": 2e-5}}
    says(lambda: configs.check(changed), "config.sweep.common_rate", "2e-05", "0.001, 0.003, 0.01")
