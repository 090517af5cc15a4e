"""The cells behind one published number."""

import copy
import json
import shlex

import pytest
from commands import pissa

from pissa_repro.paper import behind
from pissa_repro.plan.config import ROOT, load
from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime.errors import UserError

CONFIG = ("config/config.yaml", "config/paper.yaml", "config/benchmarks.yaml")


@pytest.fixture(scope="module")
def grid():
    return load(*(ROOT / path for path in CONFIG))


@pytest.mark.parametrize(
    ("asked", "mean"),
    [
        (("2", "llama-2-7b", "pissa", None, "gsm8k"), 53.22),
        (("Table 2", "llama-2-7b", "lora", None, "math"), 5.9),
        (("2", "gemma-7b", "full_ft", None, "gsm8k"), 72.09),
        (("5", "llama-3-8b", "pissa+dora", None, "gsm8k"), 77.51),
        (("9", "llama-3-8b", "qpissa", None, "gsm8k"), 73.76),
        (("9", "llama-3-8b", "lora", "int8", "gsm8k"), 71.68),
    ],
)
def test_a_number_is_found_by_its_table(asked, mean):
    assert behind.chosen(*asked).mean == mean


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            ("22", "llama-2-7b", "pissa", None, "gsm8k"),
            "--table: unknown table '22'. Did you mean '2'? Choices: 2, 5, ",
        ),
        (("2", "llama-2-7", "pissa", None, "gsm8k"), "--model (v4 Table 2): unknown model 'llama-2-7'. Did you mean"),
        (("2", "llama-2-7b", "loftq", None, "gsm8k"), "Choices: full, lora, "),
        (("9", "llama-3-8b", "pissa", None, "gsm8k"), "--quant (v4 Table 9): unknown quant 'none'. Choices: int8, "),
        (("2", "llama-2-7b", "pissa", "nf4", "gsm8k"), "--quant (v4 Table 2): unknown quant 'nf4'"),
        (("2", "llama-2-7b", "pissa", None, "gsm"), "Choices: gsm8k, humaneval, math, mbpp, mt_bench."),
    ],
)
def test_a_wrong_word_is_answered_with_the_choices(asked, said):
    with pytest.raises(UserError) as error:
        behind.chosen(*asked)
    assert said in str(error.value)


def test_exactly_the_cells_of_the_number_are_left(grid):
    entry = behind.chosen("2", "mistral-7b-v0.1", "pissa", None, "math")
    config = copy.deepcopy(grid)
    config["sweep"] |= behind.narrowed(grid, entry)
    cell = "mistral-7b/metamath-100k/pissa-none-r64-lr2e-05"
    assert list(Sweep(config).cells) == [f"{cell}-s{seed}" for seed in (0, 1, 2)]
    assert config["sweep"]["tasks"] == ["math"]


def test_of_two_models_of_one_name_the_last_one_counts(grid):
    config = copy.deepcopy(grid)
    config["models"]["mine"] = {"path": "models/mine", "paper": "llama-2-7b"}
    entry = behind.chosen("2", "llama-2-7b", "pissa", None, "gsm8k")
    assert behind.narrowed(config, entry)["models"] == ["mine"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("2", "llama-2-7b", "pissa", None, "mbpp"), "config.datasets: none says `paper: codefeedback-100k`"),
        (("5", "llama-3-8b", "lora+dora", None, "gsm8k"), "{lora-dora: {init: lora, lora: {use_dora: true}}}`"),
    ],
)
def test_what_the_config_does_not_define_is_said_with_its_place(grid, asked, said):
    with pytest.raises(UserError) as error:
        behind.narrowed(grid, behind.chosen(*asked))
    assert said in str(error.value)


def test_the_plan_names_cells_and_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pissa("reproduce", "--table", "2", "--model", "llama-2-7b", "--method", "pissa")
    out = capsys.readouterr().out
    assert "llama-2-7b, PiSSA, gsm8k: 53.22 ± 0.55; published in v4 Table 2 (seen two conversions)" in out
    assert "also published: 53.07 in NLG table of arXiv v1-v3" in out
    assert "3 cells: 1 start, 3 trainings, 3 scores" in out
    assert "no verdict yet: 3 of 3 scores are missing" in out
    words = shlex.split(next(line for line in out.splitlines() if line.startswith("to run: "))[len("to run: ") :])
    targets = words[1 : words.index("--cores")]
    assert targets == [
        f"results/cells/llama-2-7b/metamath-100k/pissa-none-r128-lr2e-05-s{seed}/eval/gsm8k.json" for seed in (0, 1, 2)
    ]
    swept = json.loads(words[words.index("--config") + 1].removeprefix("sweep="))
    assert swept == {
        "models": ["llama-2-7b"], "datasets": ["metamath-100k"], "tasks": ["gsm8k"],
        "cells": [{"method": "pissa", "quant": "none"}],
    }  # fmt: skip
    assert not list(tmp_path.iterdir()), "a plan writes nothing"
