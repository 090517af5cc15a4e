"""What a user can get wrong in a config: every case ends in one message that names the place."""

import copy

import pytest
from stage import FIELDS, LLAMA, says

from pissa_repro.plan import config
from pissa_repro.plan.sweep import Sweep

GOOD = {
    "models": {"tiny": {"path": "somewhere"}},
    "datasets": {"sums": {"path": "s.jsonl", "fields": FIELDS}, "tests": {"path": "t.jsonl", "fields": dict(FIELDS)}},
    "methods": {"my-pissa": {"init": "pissa", "options": {"alternations": 5}}},
    "train": {"epochs": 1, "batch_size": 4, "max_length": 64, "dtype": "float32", "target_modules": LLAMA},
    "tasks": {"score": {"task": "gsm8k", "dataset": "tests", "max_new_tokens": 8}},
    "overrides": [{"where": {"quant": "nf4"}, "set": {"learning_rate": 1.0e-3}, "why": "a reason of ten letters"}],
    "sweep": {
        "models": ["tiny"], "datasets": ["sums"], "cells": [{"method": "my-pissa", "quant": "nf4"}], "ranks": [4],
        "learning_rates": [1.0e-3], "seeds": [0], "tasks": ["score"],
    },
}  # fmt: skip


def changed(path, value):
    """GOOD with one place changed: "train.epochs", "sweep.cells.0.quant"."""
    new = copy.deepcopy(GOOD)
    *way, last = path.split(".")
    place = new
    for step in way:
        place = place[int(step)] if isinstance(place, list) else place.setdefault(step, {})
    place[int(last) if isinstance(place, list) else last] = value
    return new


def test_the_good_config_is_good():
    assert list(Sweep(copy.deepcopy(GOOD)).cells) == ["tiny/sums/my-pissa-nf4-r4-lr0.001-s0"]


WRONG = [
    # unknown keys: the place, the nearest word, the choices
    ("modles", {}, ["config:", "'modles'", "'models'", "datasets"]),
    ("train.bach_size", 4, ["config.train", "'bach_size'", "'batch_size'", "max_length"]),
    ("models.tiny.revison", "main", ["config.models.tiny", "'revison'", "'revision'", "hub"]),
    ("datasets.sums.feilds", {}, ["config.datasets.sums", "'feilds'", "'fields'"]),
    ("datasets.sums.fields.anwser", "a", ["config.datasets.sums.fields", "'anwser'", "response"]),
    ("methods.my-pissa.option", {}, ["config.methods.my-pissa", "'option'", "'options'"]),
    ("tasks.score.max_tokens", 8, ["config.tasks.score", "'max_tokens'", "'max_new_tokens'"]),
    ("overrides.0.set.learningrate", 1, ["config.overrides.0.set", "'learningrate'", "'learning_rate'"]),
    ("overrides.0.where.qant", "nf4", ["config.overrides.0.where", "'qant'", "'quant'"]),
    ("sweep.rank", [4], ["config.sweep", "'rank'", "'ranks'"]),
    ("sweep.cells.0.qant", "nf4", ["config.sweep.cells.0", "'qant'", "'quant'"]),
    # a misspelt key is missed under its right name, too; the misspelling is what helps
    ("train", {**{k: v for k, v in GOOD["train"].items() if k != "epochs"}, "epcohs": 1}, ["'epcohs'", "'epochs'"]),
    # unknown words
    ("sweep.models", ["tinny"], ["config.sweep.models", "model 'tinny'", "'tiny'", "Choices: tiny"]),
    ("sweep.datasets", ["sum"], ["config.sweep.datasets", "dataset 'sum'", "'sums'", "tests"]),
    ("sweep.tasks", ["scroe"], ["config.sweep.tasks", "task 'scroe'", "'score'"]),
    ("sweep.cells.0.method", "pisa", ["config.sweep.cells[0].method", "method 'pisa'", "'pissa'", "olora", "my-pissa"]),
    ("sweep.cells.0.quant", "nf5", ["config.sweep.cells[0].quant", "quant 'nf5'", "'nf4'", "none", "int8"]),
    ("methods.my-pissa.init", "pisa", ["config.methods.my-pissa.init", "method 'pisa'", "'pissa'", "milora"]),
    ("methods.my-pissa.options", {"alternation": 5}, ["config.methods.my-pissa", "'alternation'", "'alternations'"]),
    ("tasks.score.task", "gsm8", ["config.tasks.score.task", "task file 'gsm8'", "'gsm8k'"]),
    ("tasks.score.dataset", "test", ["config.tasks.score.dataset", "dataset 'test'", "'tests'", "sums"]),
    ("overrides.0.where", {"model": "tinny"}, ["config.overrides[0].where.model", "'tinny'", "'tiny'"]),
    ("overrides.0.where", {"method": "lor"}, ["config.overrides[0].where.method", "'lor'", "'lora'"]),
    # pairs that make no sense, with the reason
    (
        "sweep.cells.0",
        {"method": "full", "quant": "nf4"},
        ["config.sweep.cells[0]", "(full, nf4)", "cannot be trained"],
    ),
    ("sweep.cells.0", {"method": "loftq", "quant": "none"}, ["config.sweep.cells[0]", "(loftq, none)", "it is LoRA"]),
    # values
    ("train.dtype", "float16", ["config.train.dtype", "'float16'", "float32", "bfloat16"]),
    ("train.max_length", 0, ["config.train.max_length", "0"]),
    ("train.alpha", "rnak", ["config.train.alpha", "rank"]),
    ("train", None, ["config.train", "object"]),
    ("sweep.ranks", [0], ["config.sweep.ranks.0", "0"]),
    ("sweep.ranks", [], ["config.sweep.ranks"]),
    ("sweep.seeds", [1, 1], ["config.sweep.seeds"]),
    ("sweep.learning_rates", ["1e-3"], ["config.sweep.learning_rates.0", "'1e-3'"]),  # YAML 1.1 reads 1e-3 as a text
    ("sweep.learning_rates", [float("nan")], ["config"]),
    ("overrides.0.why", "because", ["config.overrides.0.why", "'because'"]),
    ("models.tiny", {"path": "a", "hub": "b/c", "revision": "main"}, ["config.models.tiny", "'path'", "'hub'"]),
    ("models.tiny", {"hub": "b/c"}, ["config.models.tiny", "'revision'"]),
    ("models.tiny.hub", "b", ["config.models.tiny"]),
    ("datasets.sums", {"hub": "b/c", "revision": "main", "fields": FIELDS}, ["config.datasets.sums", "'file'"]),
    ("methods.my-pissa.lora", {"use_dorra": True}, ["config.methods.my-pissa.lora", "'use_dorra'", "'use_dora'"]),
    ("methods.my-pissa.lora", {"r": 8}, ["config.methods.my-pissa.lora", "'r'", "config.sweep.ranks"]),
    ("methods.my-pissa.lora", {"lora_alpha": 0}, ["config.methods.my-pissa.lora", "'lora_alpha' is 0", "above 0"]),
    ("methods.my-pissa.lora", {"rank_pattern": {"(": 2}}, ["'rank_pattern'", "regular expressions"]),
    ("methods.my-pissa.lora", {"modules_to_save": "lm_head"}, ["'modules_to_save' is 'lm_head'", "a list of names"]),
    ("methods.my-pissa.options", {"alternations": 0}, ["config.methods.my-pissa", "alternations", "whole number"]),
]


@pytest.mark.parametrize(
    ("path", "value", "words"), WRONG, ids=[f"{path}={str(value)[:30]}" for path, value, _ in WRONG]
)
def test_a_wrong_config_names_the_place(path, value, words):
    says(lambda: Sweep(changed(path, value)), *words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["mapping", "NoneType"]),
        ("- a\n- b\n", ["mapping", "list"]),
        ("a: [1,\n", ["not valid YAML", "line 2"]),
        ("a: \xff", ["not valid YAML"]),
        ("models: {tiny: {hub: a/b, revision: 2024-01-31}}", ["date", "quotes"]),
        (None, ["cannot be read", "No such file"]),
    ],
)
def test_a_config_file_that_is_none(tmp_path, text, words):
    path = tmp_path / "mine.yaml"
    if text is not None:
        path.write_bytes(text.encode("latin-1"))
    says(lambda: config.load(path), *words, *([] if "date" in words else [str(path)]))


def test_cells_that_would_share_a_start_but_differ():
    two = changed("datasets.others", {"path": "o.jsonl", "fields": FIELDS})
    two["sweep"]["datasets"] = ["sums", "others"]
    two["overrides"] = [{"where": {"dataset": "others"}, "set": {"alpha": 8}, "why": "a reason of ten letters"}]
    says(lambda: Sweep(two).starts, "config.overrides", "/others/", "Give one of them")


def test_a_rate_is_chosen_on_rows_that_are_not_scored():
    new, validation = changed("sweep.tasks", ["score", "score-validation"]), GOOD["tasks"]["score"]
    new["tasks"]["score-validation"] = validation
    says(lambda: config.check(new), "config.tasks.score-validation.dataset", "'tests'", "'score' scores")
    new["tasks"]["score-validation"] = validation | {"task": "math"}
    says(lambda: config.check(new), "config.tasks.score-validation.task", "math", "gsm8k")
    new["tasks"]["score-validation"] = validation | {"dataset": "sums"}
    config.check(new)
