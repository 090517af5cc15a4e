"""Case 15: a number means one thing however it is written, and only a possible one is taken."""

import math

import pytest
import yaml
from stage import says
from swept import changed

from pissa_repro.plan import config
from pissa_repro.plan.checked import checked, fitting
from pissa_repro.plan.reading import plain
from pissa_repro.runtime.record import canonical

WHOLE = {  # place: a whole number
    "models.tiny.gpus": 2, "models.tiny.micro_batch_size": 2, "datasets.sums.rows": 250, "train.steps": 7,
    "train.epochs": 2, "train.batch_size": 4, "train.max_length": 64, "train.alpha": 8, "train.weight_decay": 0,
    "train.max_grad_norm": 1, "tasks.score.max_new_tokens": 8, "methods.my-pissa.options.alternations": 5,
    "overrides.0.set.rank": 2, "overrides.0.set.learning_rate": 1, "sweep.ranks": [4, 8], "sweep.seeds": [0, 1],
    "sweep.learning_rates": [1], "scoring.cells_per_engine": 4, "studies.rank": 4, "studies.ranks": [1, 2],
    "studies.alternations": [1, 5], "studies.many_alternations": [1, 5],
}  # fmt: skip
LARGEST = {
    "models.tiny.gpus": 65536, "models.tiny.micro_batch_size": 65536, "datasets.sums.rows": 2**31 - 1,
    "train.steps": 2**31 - 1, "train.batch_size": 65536, "train.max_length": 2**20, "train.epochs": 1_000_000,
    "tasks.score.max_new_tokens": 2**20, "methods.my-pissa.options.alternations": 1000, "sweep.ranks.0": 65536,
    "sweep.seeds.0": 2**32 - 1, "train.weight_decay": 1000, "train.max_grad_norm": 10**12, "train.alpha": 1_000_000,
    "sweep.learning_rates.0": 1000, "studies.rank": 65536, "scoring.cells_per_engine": 65536,
}  # fmt: skip


def specs(given):
    """Everything that decides what the sweep's stages do, as the workflow compares it."""
    sweep, batches = checked(given)
    made = [sweep.evaluate_spec(cell, "score") for cell in sweep.cells.values()]
    return [canonical([sweep.config, made, list(sweep.cells), list(sweep.starts)]), list(batches.by_name)]


@pytest.mark.parametrize("place", WHOLE)
def test_a_whole_number_is_one_value_with_and_without_a_point(place):
    """Case 15: 4 and 4.0 are one cell, in every place that takes a number."""
    value = WHOLE[place]
    dotted = [float(one) for one in value] if isinstance(value, list) else float(value)
    assert specs(changed(place, dotted)) == specs(changed(place, value))


def test_a_part_of_a_whole_number_is_refused():
    """Case 15: nothing is rounded."""
    for place in ("sweep.ranks.0", "sweep.seeds.0", "train.batch_size", "datasets.sums.rows"):
        says(lambda place=place: checked(changed(place, 4.5)), f"config.{place}", "4.5", "integer")
    says(lambda: checked(changed("methods.my-pissa.options.alternations", 2.5)), "alternations", "2.5", "whole number")


@pytest.mark.parametrize("place", LARGEST)
def test_numbers_have_an_upper_bound(place):
    """Case 15: the bound itself is taken; one more is named, with the bound."""
    most = LARGEST[place]
    checked(changed(place, most))
    says(lambda: checked(changed(place, most + 1)), place.split(".")[1], str(most + 1))


@pytest.mark.parametrize("place", ["sweep.seeds.0", "train.max_length", "train.weight_decay", "sweep.learning_rates.0"])
@pytest.mark.parametrize(
    "value", [10**400, 10**5000, -(10**400), math.inf, -math.inf, math.nan], ids=lambda value: f"{type(value)!s}"
)
def test_a_number_without_a_measure_is_refused_in_a_short_message(place, value):
    """Case 15: with its place, and not with all of its digits."""
    with pytest.raises(config.UserError) as caught:
        checked(changed(place, value))
    assert f"config.{place}" in str(caught.value) and len(str(caught.value)) < 200


def test_minus_zero_is_zero():
    """Case 15: -0.0 is a text of its own in JSON."""
    assert specs(changed("train.dropout", -0.0)) == specs(changed("train.dropout", 0))


@pytest.mark.parametrize(
    "name", ["niter_1000", "niter_016", "niter_-1", "niter_٣", "niter_", "niter_1\n", 16, ["fast"]]
)
def test_a_solver_has_one_name(name):
    """Case 15: niter_016 would be niter_16 under another name; subspace iterations have a bound."""
    says(lambda: checked(changed("methods.my-pissa.options.svd", name)), "svd", "niter_<0 to 999>")


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "3", "0.5", "1_000"])
def test_a_number_that_is_a_text_is_told_why(text):
    """Case 15: YAML 1.1 reads 1e-3 as a text, and `--config` every value in braces."""
    says(lambda: checked(changed("sweep.learning_rates", [text])), "learning_rates.0", "1e-3", "1.0e-3", "--config")


@pytest.mark.parametrize("text", ["no", "off", "null", "1234567", "1.5"])
def test_a_text_that_is_no_text_to_yaml_is_told_why(text):
    """Case 15: a revision of digits, a model named no."""
    given = changed("models.tiny", {"hub": "a/b", "revision": yaml.safe_load(text)})
    says(lambda: checked(given), "config.models.tiny.revision", "quotes")


def test_a_sweep_that_nobody_means_is_refused_at_once():
    """Case 15: a product of lists; the limit may be raised."""
    given = changed("overrides", [])
    given["sweep"] |= {"ranks": list(range(1, 1001)), "seeds": list(range(1000)), "learning_rates": [1, 2, 3]}
    says(lambda: checked(given), "config.sweep", "3,000,000 scores", "100,000", "config.sweep.max_scores")
    given["sweep"] |= {"seeds": [0, 1], "max_scores": 6000}
    assert len(checked(given)[0].cells) == 6000
    given["sweep"]["max_scores"] = 5999
    says(lambda: checked(given), "6,000 scores", "5,999")


def test_a_study_that_nobody_means_is_refused():
    """Case 15: its grid of points is one spec."""
    says(
        lambda: checked(changed("studies", {"ranks": list(range(1, 900)), "alternations": [1, 2, 3]})),
        "config.studies", "5,394 points", "1,000",
    )  # fmt: skip


def test_a_spec_that_no_command_can_hold_is_refused():
    """Case 15: the kernel would refuse the job: "Argument list too long"."""
    assert fitting('{"a":1}') == '{"a":1}'
    fitting("'" * 20_000)
    says(lambda: fitting("'" * 30_000), "150,002 bytes", "120,000", "cells_per_engine")


def test_a_checked_config_is_a_copy_of_plain_types():
    """Case 15: nothing of the given object is kept or changed."""
    inner = {"a": (1, 2.0, -0.0, 2.5, None, True)}
    assert plain(inner) == {"a": [1, 2, 0, 2.5, None, True]}
    assert [type(one) for one in plain(inner)["a"]] == [int, int, int, float, type(None), bool]
    assert inner == {"a": (1, 2.0, -0.0, 2.5, None, True)}
