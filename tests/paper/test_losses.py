"""Losses are compared before scores, as far as the paper's are known."""

import math

import pytest
from verdicts import at, cell_of

from pissa_repro.paper import losses
from pissa_repro.paper import verdict as paper_verdict
from pissa_repro.paper.words import Ours


def verdict(config, loss, mean=53.22, loss_noise=None, **changes):
    sweep, cell = cell_of(config, **changes)
    ours = Ours(mean, 1.4, 1319, loss=loss, loss_noise=loss_noise)
    return paper_verdict.compare(sweep, cell, "gsm8k", ours)


@pytest.mark.parametrize(
    ("setting", "mean", "tier", "t"),
    [
        (("llama-2-7b", "pissa", "none", 128), 0.2264, "seen", None),  # v4 Table 6, exact
        (("llama-2-7b", "pissa", "none", 1), 0.3412, "seen", None),
        (("llama-2-7b", "lora", "nf4", 128), 0.313, "digitised", None),
        (("llama-2-7b", "pissa", "nf4", 64), 0.279, "digitised", 1),
    ],
)
def test_lookup(setting, mean, tier, t):
    found = losses.lookup(*setting)
    assert (found.mean, found.tier, found.alternations) == (mean, tier, t)


@pytest.mark.parametrize("setting", [("llama-2-7b", "lora", "none", 128), ("gemma-7b", "pissa", "none", 64)])
def test_what_was_not_published_is_not_found(setting):
    assert losses.lookup(*setting) is None


@pytest.mark.parametrize(
    ("loss", "noise", "word"),
    [(0.2264, None, "agrees"), (0.2274, None, "agrees"), (0.2276, None, "undecided"), (0.2276, 0.004, "agrees")],
)
def test_a_loss_agrees_within_what_runs_move_by(config, loss, noise, word):
    """Pitfall 25: 0.001, or what was measured. It never differs: which average the paper's is, it does not say."""
    found = verdict(config, loss, loss_noise=noise)
    assert (found.loss, found.loss_verdict, found.verdict) == (0.2264, word, "agrees")
    assert found.note.startswith(f"final loss {loss:.4f} here, 0.2264 in v4 Table 6, exact (seen), difference +")
    assert "the paper does not say which average its loss is" in found.note


def test_the_setting_of_the_training_belongs_to_the_loss_and_that_of_the_scoring_does_not(config):
    other = verdict(config, 0.2264, learning_rates=2e-4)
    assert (other.loss, other.loss_verdict) == (0.2264, "not comparable")
    cut = {**config, "tasks": {"gsm8k": config["tasks"]["gsm8k"] | {"max_new_tokens": 16}}}
    found = verdict(cut, 0.2264)
    assert (found.verdict, found.loss_verdict) == ("not comparable", "agrees")


def test_alternations_are_part_of_the_setting(config):
    cells = {"method": "pissa", "quant": "nf4"}
    assert verdict(config, 0.261, 49.13, cells=cells).loss_verdict == "not comparable"
    found = verdict(at(config, 1), 0.262, 49.13, cells=cells)
    assert (found.loss, found.loss_verdict) == (0.261, "agrees")
    assert "superseded by v4 Figure 7" in found.note


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_not_comparable_nor_is_its_score(config, loss):
    found = verdict(config, loss)
    assert (found.verdict, found.loss_verdict) == ("not comparable", "not comparable")
    assert found.note.startswith("our final loss is not a number; published in v4 Table 2")


def test_without_a_loss_of_ours_nothing_is_said(config):
    found = verdict(config, None)
    assert (found.loss, found.loss_verdict, found.verdict) == (None, None, "agrees")


def test_a_loss_of_a_model_that_is_only_declared_says_so(config):
    """The test rows are no part of it."""
    local = {"path": "models/mine", "paper": "llama-2-7b"}
    found = verdict({**config, "models": config["models"] | {"llama-2-7b": local}}, 0.2264)
    assert found.loss_verdict == "agrees, as declared in the config"
    rows = config["datasets"]["gsm8k-test"] | {"file": "main/train-00000-of-00001.parquet"}
    found = verdict({**config, "datasets": config["datasets"] | {"gsm8k-test": rows}}, 0.2264)
    assert (found.verdict, found.loss_verdict) == ("not comparable", "agrees")
