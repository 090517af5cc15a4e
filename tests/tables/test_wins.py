"""Every method against every other one: the pairs, their words, the matrix. Every number is invented."""

import copy

import pytest
import tabled
from figured import drawn
from tabled import make

from pissa_repro.exhibits import output
from pissa_repro.plan.sweep import Sweep
from pissa_repro.results.wins import groups

CELLS = [("full", "none"), ("lora", "none"), ("pissa", "none"), ("milora", "none"), ("lora", "nf4")]


@pytest.fixture
def sweep(tmp_path, config, monkeypatch):
    monkeypatch.setitem(tabled.RIGHT, ("milora", "none"), 0.4)
    monkeypatch.setitem(tabled.LOSS, ("milora", "none"), 0.6)
    config = copy.deepcopy(config)
    config["sweep"]["cells"] = [{"method": method, "quant": quant} for method, quant in CELLS]
    make(tmp_path, config)
    return Sweep(config)


def test_every_pair_on_a_base_is_a_row(tmp_path, sweep):
    table = output(sweep, "table", "extra/wins").exhibit.make(sweep, tmp_path)
    assert [(row["a"], row["b"]) for row in table.rows] == [
        ("full FT", "LoRA"), ("full FT", "PiSSA"), ("full FT", "MiLoRA"), ("LoRA", "PiSSA"), ("LoRA", "MiLoRA"),
        ("PiSSA", "MiLoRA"),
    ]  # fmt: skip
    found = {(row["a"], row["b"]): row for row in table.rows}
    assert found["LoRA", "PiSSA"]["verdict"] == "worse" and found["PiSSA", "MiLoRA"]["verdict"] == "better"
    assert found["LoRA", "MiLoRA"]["verdict"] == "no difference shown"
    assert all(row["p"] <= row["p_holm"] <= 1 and row["low"] < row["difference"] < row["high"] for row in table.rows)
    assert all((row["p"] < 0.05) is (row["low"] > 0 or row["high"] < 0) for row in table.rows)


def test_the_text_counts_what_each_method_is_better_than(tmp_path, sweep):
    text = output(sweep, "table", "extra/wins").exhibit.make(sweep, tmp_path).markdown
    (pissa,) = (line for line in text.splitlines() if line.startswith("| PiSSA"))
    assert [cell.strip() for cell in pissa.split("|")][3:6] == ["3", "0", "0"]
    assert "6 pairs of these 4 rows" in text and "200 items and 3 seeds" in text and "{" not in text


def test_the_matrix_has_a_square_for_each_pair_and_its_opposite(tmp_path, sweep):
    figure = drawn("wins_figure", sweep, tmp_path)
    values = figure.axes[0].images[0].get_array().filled(0)
    assert values.shape == (4, 4) and abs(values + values.T).max() < 1e-12
    assert figure.axes[0].get_yticklabels()[0].get_text() == "PiSSA"


def test_few_methods_have_no_such_table(config):
    sweep = Sweep(config)
    assert output(sweep, "table", "extra/wins").exhibit.needs(sweep) == [] and groups([]) == []
