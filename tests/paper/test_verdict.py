"""When ours agrees with a published number, and why it may not be compared."""

import copy

import pytest
from verdicts import at, cell_of, verdict

from pissa_repro.paper import published
from pissa_repro.paper import verdict as paper_verdict
from pissa_repro.plan.config import ROOT, load

UNSAID = "no `paper:` in the config says that"


def test_agreement_ends_at_196_combined_standard_errors(config):
    """Pitfall 25. Newcombe's interval is that of the normal distribution here, to a tenth of a point."""
    theirs = (0.55**2 / 3 + 53.22 * 46.78 / 1319) ** 0.5
    edge = 1.959964 * (1.4**2 + theirs**2) ** 0.5
    assert verdict(config, 53.22 + edge - 0.1).verdict == "agrees"
    assert verdict(config, 53.22 - edge + 0.1).verdict == "agrees"
    assert verdict(config, 53.22 + edge + 0.1).verdict == "differs"
    assert verdict(config, 53.22 - edge - 0.1).verdict == "differs"
    assert 3.8 < edge < 4.0  # GSM8K at one table's size cannot tell less than four points apart


def test_a_verdict_comes_with_the_number_and_where_it_stands(config):
    found = verdict(config)
    assert (found.value, found.std) == (53.22, 0.55)
    assert "v4 Table 2" in found.note
    assert "rank derived, not printed" in found.note
    assert "also published: 53.07" in found.note
    assert "one seed" not in found.note
    assert "one seed" in verdict(config, seeds=0).note


def test_a_single_published_run_has_the_error_of_its_items_only(config):
    entry = published.lookup("llama-2-7b", "lora", "nf4", 128, "gsm8k")[0]
    assert paper_verdict.published_stderr(entry, 1319) == pytest.approx((39.8 * 60.2 / 1319) ** 0.5)


@pytest.mark.parametrize(("method", "value"), [("pissa", 49.13), ("loftq", 40.71)])
def test_the_shipped_alternations_are_not_the_published_ones(config, method, value):
    """Case 8: the numbers of the abstract stand in the digitised sweep too, with T = 1."""
    found = verdict(config, value, cells={"method": method, "quant": "nf4"})
    assert (found.value, found.verdict) == (value, "not comparable")
    assert "T = 5, 1 in the published run" in found.note


@pytest.mark.parametrize(
    ("mean", "word"), [(37.23, "undecided"), (40.71, "undecided"), (20.0, "differs"), (60.0, "differs")]
)
def test_two_published_numbers_of_one_setting_contradict_each_other(config, mean, word):
    """Case 8: LoftQ has 40.71 and 37.23; agreement with one of them is none."""
    found = verdict(at(config, 1), mean, cells={"method": "loftq", "quant": "nf4"})
    assert (found.value, found.verdict) == (40.71, word)
    assert "the published numbers 40.71 and 37.23 contradict each other" in found.note


def test_qlora_is_evaluated_on_another_base_than_the_published_one(config):
    """Case 8: the released script scores the adapter on the plain base."""
    found = verdict(config, 39.8, cells={"method": "lora", "quant": "nf4"})
    assert (found.value, found.verdict) == (39.8, "not comparable")
    assert "evaluated on the nf4 base that it was trained on, the released script on the plain base" in found.note


def test_full_fine_tuning_in_float32_is_not_comparable(config):
    """Case 8: v4 Table 7."""
    changed = {**config, "overrides": []}
    found = verdict(changed, 49.13, cells={"method": "full", "quant": "none"})
    assert found.verdict == "not comparable" and "full fine-tuning in float32" in found.note


@pytest.mark.parametrize(
    ("task", "word", "note"),
    [
        ({"max_new_tokens": 256}, "not comparable", "256 new tokens here, 1024 in the released script"),
        ({"max_new_tokens": 2048}, "agrees", "2048 new tokens here, 1024 in the released script"),
        ({"backend": "hf"}, "agrees", "scored with backend hf, the released script with vllm"),
        ({"dtype": "float32"}, "agrees", "scored with dtype float32, the released script with bfloat16"),
    ],
)
def test_how_it_was_scored_belongs_to_the_comparison(config, task, word, note):
    """Case 8: tokens, dtype and back-end of scoring."""
    changed = copy.deepcopy(config)
    changed["tasks"]["gsm8k"] |= task
    found = verdict(changed)
    assert found.verdict == word and note in found.note


def test_another_solver_is_a_remark(config):
    """Case 8: it is known and small."""
    assert "solver fast here, niter_16 in the released script" in verdict(config).note
    released = {**config["methods"], "pissa": {"init": "pissa", "options": {"svd": "niter_16"}}}
    assert "solver" not in verdict({**config, "methods": released}).note


def test_products_in_fewer_bits_are_a_remark(config):
    fewer = {**config, "train": {**config["train"], "tf32": True}}
    assert verdict(fewer).verdict == verdict(config).verdict
    assert "TF32" in verdict(fewer).note and "TF32" not in verdict(config).note


@pytest.mark.parametrize("mean", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_not_comparable(config, mean):
    """Case 11: by order it agreed or differed."""
    found = verdict(config, mean)
    assert found.verdict == "not comparable" and "our score is not a number" in found.note


@pytest.mark.parametrize("stderr", [None, float("nan"), 0.0])
def test_an_error_that_is_missing_is_that_of_the_items(config, stderr):
    """Case 11: None raised."""
    assert verdict(config, stderr=stderr) == verdict(config, stderr=(53.22 * 46.78 / 1319) ** 0.5)


def test_the_papers_steps_are_named(config):
    """Case 11: it said "the paper's None"."""
    found = verdict({**config, "train": {**config["train"], "steps": 782}})
    assert "steps is 782, the paper's 781 (or the whole epoch)" in found.note


@pytest.mark.parametrize("method", ["full", "lora", "pissa"])
def test_every_plain_cell_of_table_2_is_comparable(config, method):
    assert verdict(config, cells={"method": method, "quant": "none"}).verdict in ("agrees", "differs")


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"epochs": 3}, "epochs"),
        ({"steps": 100}, "steps"),
        ({"batch_size": 32}, "batch_size is 32, the paper's 128"),
        ({"max_length": 1024}, "max_length"),
        ({"schedule": "linear"}, "schedule"),
        ({"warmup_ratio": 0.0}, "warmup_ratio"),
        ({"weight_decay": 0.1}, "weight_decay"),
        ({"alpha": 16}, "alpha"),
        ({"dropout": 0.05}, "dropout"),
        ({"rslora": True}, "rslora"),
        ({"target_modules": ["q_proj", "v_proj"]}, "target_modules"),
        ({"max_grad_norm": 0.3}, "max_grad_norm"),
    ],
)
def test_another_recipe_is_not_comparable_and_the_note_says_why(config, settings, word):
    changed = {**config, "train": {**config["train"], **settings}}
    found = verdict(changed)
    assert (found.verdict, found.value) == ("not comparable", 53.22)
    assert word in found.note


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (100_000, None),
        ("0-99999", None),
        ("1-100000", "trained on rows 1-100000, the paper on the first 100,000 (rows: 100000)"),
        (50, "trained on 50 rows, the paper on the first 100,000 (rows: 100000)"),
        (None, "trained on all rows of its file, the paper on the first 100,000 (rows: 100000)"),
    ],
)
def test_the_papers_rows_are_the_first_ones(config, rows, said):
    changed = copy.deepcopy(config)
    changed["datasets"]["metamath-100k"].pop("rows")
    changed["datasets"]["metamath-100k"] |= {"rows": rows} if rows else {}
    found = verdict(changed)
    assert (found.verdict, "trained on" in found.note) == (("not comparable", True) if said else ("agrees", False))
    assert (said or "") in found.note


@pytest.mark.parametrize("settings", [{"steps": None}, {"alpha": 128}])
def test_the_papers_recipe_in_other_words_is_comparable(config, settings):
    assert verdict({**config, "train": {**config["train"], **settings}}).verdict == "agrees"


def test_adapter_settings_do_not_matter_to_full_fine_tuning(config):
    changed = {**config, "train": {**config["train"], "alpha": 16, "dropout": 0.1}}
    assert verdict(changed, 49.0, cells={"method": "full", "quant": "none"}).verdict == "agrees"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"learning_rates": 2e-4}, "learning_rate is 0.0002, the paper's 2e-05"),
        ({"n": 200}, "200 items, the benchmark has 1319"),
        ({"metric": "strict"}, "metric 'strict'"),
        ({"models": "llama-3-8b"}, "prints no rank"),
        ({"ranks": 64, "cells": {"method": "pissa", "quant": "nf4"}}, "T = 5, 1 in the published run"),
    ],
)
def test_other_reasons_not_to_compare(config, arguments, word):
    found = verdict(config, **arguments)
    assert found.verdict == "not comparable"
    assert word in found.note


def test_the_embedded_sweep_is_not_comparable():
    found = verdict(load(ROOT / "config/config.yaml"), 30.0, n=300, task="gsm-mini")
    reason = f"{UNSAID} gsm-mini (generated) is a benchmark of the paper"
    assert found == paper_verdict.Verdict(None, None, "not comparable", reason)


@pytest.mark.parametrize(
    ("section", "name", "reason"),
    [
        ("models", "llama-2-7b", "LLaMA-2-7B is a model of the paper"),
        ("datasets", "metamath-100k", "MetaMathQA-100K is training data of the paper"),
        ("tasks", "gsm8k", "GSM8K is a benchmark of the paper"),
    ],
)
def test_without_a_link_in_the_config_nothing_is_compared(config, section, name, reason):
    changed = copy.deepcopy(config)
    del changed[section][name]["paper"]
    assert verdict(changed) == paper_verdict.Verdict(None, None, "not comparable", f"{UNSAID} {reason}")


def test_a_method_with_other_adapter_fields_is_not_the_papers(config):
    dora = {"pissa-dora": {"init": "pissa", "lora": {"use_dora": True}}}
    changed = {**config, "methods": {**config["methods"], **dora}}
    found = verdict(changed, models="llama-3-8b", cells={"method": "pissa-dora", "quant": "none"})
    assert (found.value, found.verdict) == (77.51, "not comparable")
    assert paper_verdict.paper_method({"init": "pissa", "options": {}, "lora": {"use_dora": True, "other": 1}}) is None


def test_a_method_that_was_not_published_is_not_comparable(config):
    found = verdict(config, cells={"method": "milora", "quant": "none"})
    assert found.value is None
    assert "no published gsm8k of llama-2-7b, MiLoRA at rank 128" in found.note


@pytest.mark.parametrize(("noise", "said"), [(8.0, True), (3.0, False), (None, False)])
def test_a_difference_within_the_noise_floor_says_so(config, noise, said):
    sweep, cell = cell_of(config)
    found = paper_verdict.compare(sweep, cell, "gsm8k", paper_verdict.Ours(48.0, 1.4, 1319, noise=noise))
    assert found.verdict == "differs" and found.p < 0.05
    assert ("within the noise floor: two runs of one setting lie up to 8.00 points apart here" in found.note) == said
