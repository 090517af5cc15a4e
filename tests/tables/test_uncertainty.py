"""What a table says of its uncertainty: noise floor, Holm's correction, equivalence."""

import copy

import numpy as np
import pytest
import tabled
from rated import RIGHT, rated
from tabled import answers, run

from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.tables import family
from pissa_repro.results.multiple import holm
from pissa_repro.stages import table as stage_table

TWO = [{"method": name, "quant": "none"} for name in ("lora", "pissa")]


def test_the_noise_floor_is_that_of_the_seeds(tmp_path, config):
    rows, text = run(tmp_path, config, cells=TWO)
    sweep = Sweep(config | {"sweep": config["sweep"] | {"cells": TWO}})
    means = np.array([100 * answers(cell).mean() for cell in sweep.cells.values()]).reshape(2, 3)
    both, pissa = (1.959964 * (2 * some.var(axis=1, ddof=1).mean()) ** 0.5 for some in (means, means[1:]))
    assert [float(row["noise_floor"]) for row in rows] == pytest.approx([both, both], rel=1e-4)
    assert f"two runs of one setting lie at most {both:.2f} points apart, and 0.0028 of final loss" in text
    assert "pooled over 2 rows" in text
    assert f"where a seed changes the order of the data and no start, {pissa:.2f} points" in text
    assert "between back-ends" not in text


def test_one_seed_measures_no_noise_and_has_no_word_beyond_its_items(tmp_path, config):
    rows, text = run(tmp_path, config, cells=TWO, seeds=[0])
    assert {row["noise_floor"] for row in rows} == {""}
    assert "The noise floor is not measured: that takes two seeds." in text
    assert "With one seed, the words on differences hold for these items and this seed only." in text


def test_tasks_that_differ_in_their_back_end_alone_are_noise_too(tmp_path, config, monkeypatch):
    """Four of 200 answers part: two points."""
    right = tabled.answers
    moved = np.r_[np.ones(4), np.zeros(tabled.ITEMS - 4)]
    monkeypatch.setattr(
        tabled, "answers", lambda cell, task: np.abs(right(cell) - moved) if task == "again" else right(cell)
    )
    changed = copy.deepcopy(config)
    changed["tasks"]["again"] = changed["tasks"]["gsm-mini"] | {"backend": "vllm"}
    _, text = run(tmp_path, changed, cells=TWO, tasks=["gsm-mini", "again"])
    assert text.count("between back-ends at most 2.00 points were seen") == 2


def test_the_corrected_words_stand_beside_the_others(tmp_path, config):
    rows, text = run(tmp_path, config)
    compared = [row for row in rows if row["diff_to_lora"]]
    assert len(compared) == 4
    assert all(float(row["diff_p"]) <= float(row["diff_p_holm"]) for row in compared)
    assert "| after Holm |" in text and "all 4 differences of the table" in text
    assert {row["verdict_holm"] for row in rows} == {""}


def test_a_word_that_does_not_outlive_the_correction_is_taken_back():
    ps = {"better": 0.02, "worse": 0.001, "no difference shown": 0.3}
    rows = [{"diff_p": p, "diff_verdict": word} for word, p in ps.items()] + [{"diff_verdict": "reference"}]
    rows += [{"verdict_p": 0.03, "verdict": word} for word in ("differs, as declared in the config", "agrees")]
    rows = [{"line": number, "base": None} | row for number, row in enumerate(rows)]
    family.correct(rows)
    assert [row.get("diff_holm") for row in rows[:4]] == ["better", "worse", "no difference shown", None]
    assert [row["diff_p_holm"] for row in rows[:3]] == pytest.approx([0.04, 0.003, 0.3])
    assert [row["verdict_holm"] for row in rows[4:]] == ["no difference shown, as declared in the config", "agrees"]
    assert family.shown(rows[1], "diff_p") == "worse, p 0.003"
    assert rows[0]["diff_verdict"] == "better"


@pytest.mark.parametrize(
    ("lora_on_validation", "own"),
    [([60, 80, 120], 2), ([60, 80, 70], 0)],  # best at another rate than PiSSA and full, at the same
)
def test_the_part_at_best_rates_is_of_the_same_family(lora_on_validation, own, tmp_path, config, monkeypatch):
    """Two tasks, three rates and two methods beside LoRA; a pair that stands in two parts counts once."""
    monkeypatch.setitem(RIGHT, "lora", (lora_on_validation, RIGHT["lora"][1]))
    _, arguments = rated(tmp_path, config)
    corrected = []
    monkeypatch.setattr(family, "holm", lambda p: corrected.append(p) or holm(p))
    stage_table.main(arguments)
    text = (tmp_path / "out.md").read_text(encoding="utf-8")
    assert text.count(f"with all {12 + own} differences of the table") == text.count("After Holm: ") == 7
    assert max(map(len, corrected)) == 12 + own


def test_one_comparison_needs_no_correction(tmp_path, config):
    rows, text = run(tmp_path, config, cells=TWO)
    assert [row["diff_p"] == row["diff_p_holm"] for row in rows] == [True, True]
    assert "after Holm" not in text and "After Holm" not in text


def test_equivalence_names_the_smallest_margin(tmp_path, config, monkeypatch):
    """Two of 10,000 items differ."""
    numbers = np.arange(10_000)

    def invented(cell, task=None):
        return ((numbers % 2 == 1) | (numbers < 4 * (cell.method == "lora"))).astype(float)

    monkeypatch.setattr(tabled, "ITEMS", len(numbers))
    monkeypatch.setattr(tabled, "answers", invented)
    rows, text = run(tmp_path, config, cells=TWO, seeds=[0])
    assert rows[1]["diff_equivalent"] == "1"
    assert "no difference shown, equivalent within 1 point" in text
