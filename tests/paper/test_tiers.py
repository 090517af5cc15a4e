"""How each published number is known, and which version has replaced it."""

import pytest
import yaml
from verdicts import verdict

from pissa_repro import methods
from pissa_repro.paper import published
from pissa_repro.paper.verdict import source


def test_every_confidence_that_is_shown_has_a_tier():
    assert published.TIERS.keys() == set(published.CONFIDENCE)
    assert {entry.tier for entry in published.entries()} == {"seen", "quoted by a third party", "digitised"}


@pytest.mark.parametrize(
    ("changes", "mean", "tier"),
    [
        ({}, 53.22, "seen"),
        ({"ranks": 64}, 47.38, "digitised"),
        ({"cells": {"method": "lora", "quant": "nf4"}}, 39.8, "seen"),
    ],
)
def test_a_verdict_says_the_tier_of_its_number(config, changes, mean, tier):
    found = verdict(config, mean, **changes)
    assert (found.value, found.tier) == (mean, tier)


def test_all_numbers_of_the_older_table_are_still_said_with_the_reason():
    table = yaml.safe_load(published.PATH.read_text(encoding="utf-8"))["tables"]["nlg_v1_v3"]
    why = table["superseded"]["why"]
    for row in table["rows"]:
        method = published.METHODS[row["method"]][0]
        rank = table["derived_rank"][row["model"]] if methods.has_factors(method) else 0
        for benchmark in ("gsm8k", "math", "humaneval"):
            said = source(published.lookup(row["model"], method, "none", rank, benchmark))
            assert said.startswith("published in v4 Table 2 (seen two conversions)")
            assert f"; also published: {row[benchmark]:g} in " in said
            assert f"(quoted by a third party, superseded by v4 Table 2: {why})" in said


def test_a_number_whose_later_version_was_not_read_says_so(config):
    assert "superseded by v4 Figure 15: its values were not read" in verdict(config, 47.38, ranks=64).note
