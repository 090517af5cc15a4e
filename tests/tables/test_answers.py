"""The table that splits a gap into arithmetic and form, on folders made by hand: every number is invented."""

import copy

import pytest
from tabled import ITEMS, make

from pissa_repro.exhibits import output
from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import read_lines, write_lines
from pissa_repro.sources.prompt import MARKER
from pissa_repro.tasks.gsm8k import process_results

RIGHT = {"lora": 80, "pissa": 120}  # items whose number is right
FORMLESS = {"lora": 60, "pissa": 0}  # of these, those whose answer lacks the marker


def answer(method, item):
    number = "1" if item < RIGHT[method] else "2"
    return f"It is {number}." if item < FORMLESS[method] else MARKER + number


def graded(cell, task):
    scores = [process_results({"response": "#### 1"}, [answer(cell.method, item)]) for item in range(ITEMS)]
    return {name: (values := [one[name] for one in scores], sum(values) / ITEMS) for name in scores[0]}


@pytest.fixture
def sweep(tmp_path, config):
    config = copy.deepcopy(config)
    config["sweep"] |= {"cells": [{"method": name, "quant": "none"} for name in RIGHT], "seeds": [0, 1]}
    make(tmp_path, config, scored=graded)
    sweep = Sweep(config)
    for cell in sweep.cells.values():
        path = paths.cell(cell.name, tmp_path).samples("gsm-mini")
        rows = list(read_lines(path))
        write_lines(path, [row | {"target": "#### 1", "generated": answer(cell.method, row["id"])} for row in rows])
    return sweep


def table(sweep, folder):
    return output(sweep, "table", "extra/answers").exhibit.make(sweep, folder)


def test_a_gap_is_the_sum_of_arithmetic_and_form(tmp_path, sweep):
    lora, pissa = table(sweep, tmp_path).rows
    assert lora["reference"] == "reference" and pissa["reference"] == "LoRA"
    assert (lora["by_marker_mean"], lora["last_number_mean"], lora["marker_mean"]) == (10, 40, 70)
    assert (pissa["gap"], pissa["arithmetic"], pissa["form"]) == (50, 20, 30)
    for part in ("gap", "arithmetic", "form"):
        assert 0 < pissa[f"{part}_low"] < pissa[part] < pissa[f"{part}_high"]
    assert pissa["shown_in"] == "arithmetic and form"


def test_the_text_says_what_was_compared(tmp_path, sweep):
    text = table(sweep, tmp_path).markdown
    assert "The gap to LoRA, in points" in text and "{" not in text and "No gap" not in text
    alone = Sweep({**sweep.config, "sweep": {**sweep.config["sweep"], "cells": [{"method": "pissa", "quant": "none"}]}})
    found = table(alone, tmp_path)
    assert "No gap for PiSSA" in found.markdown and found.rows[0].get("gap") is None


def test_a_sample_without_its_text_is_refused(tmp_path, sweep):
    path = paths.cell(next(iter(sweep.cells)), tmp_path).samples("gsm-mini")
    rows = list(read_lines(path))
    write_lines(path, [{key: value for key, value in row.items() if key != "generated"} for row in rows])
    with pytest.raises(UserError, match="item 0 has no text"):
        table(sweep, tmp_path)


def test_it_is_of_tasks_whose_rules_read_answers_again(config):
    def needs(file):
        tasks = {"gsm-mini": {**config["tasks"]["gsm-mini"], "task": file}}
        sweep = Sweep({**config, "tasks": tasks})
        return output(sweep, "table", "extra/answers").exhibit.needs(sweep)

    assert needs("math") == [] and len(needs("gsm8k")) == 1 + 6 * 3
