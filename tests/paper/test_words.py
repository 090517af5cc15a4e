"""Case 10: the words of a verdict by their rule, also at 0 and 100 percent and without any number."""

import pytest

from pissa_repro.paper import words
from pissa_repro.paper.words import Interval, Ours


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (0.1, 0.3, "differs"),  # surely small, but surely not 0
        (-9.0, -0.1, "differs"),
        (-1.0, 0.4, "equivalent within 1 point"),
        (-2.0, 2.0, "equivalent within 2 points"),
        (-2.1, 1.9, "equivalent within 3 points"),
        (-3.1, 1.9, "agrees"),
        (-1.0, 7.0, "agrees"),
        (-1.0, 7.1, "undecided"),
        (-50.0, 50.0, "undecided"),
        (float("nan"), 1.0, "not comparable"),
        (-1.0, float("nan"), "not comparable"),
        (float("-inf"), float("inf"), "not comparable"),
    ],
)
def test_a_word_for_every_interval(low, high, word):
    assert words.word(Interval(0.5, low, high)) == word


@pytest.mark.parametrize(("mean", "other"), [(0.0, 0.0), (100.0, 100.0), (0.0, 100.0), (0.0, 0.3)])
def test_the_interval_has_width_at_0_and_100_percent(mean, other):
    found = words.difference(Ours(mean, 0.0, 40), other, (other * (100 - other) / 40) ** 0.5)
    assert found.half_width > 4
    assert words.word(found) == ("differs" if other == 100 and mean == 0 else "undecided")


def test_what_would_decide():
    """Seeds where their spread is what is missing, items where there are too few, nothing where theirs are."""
    assert words.deciding(Ours(50.0, (1 + 3**2 / 2) ** 0.5, 2500, seeds=2, spread=3.0), 1.0) == "5 seeds would decide"
    assert words.deciding(Ours(50.0, 5.0, 100), 0.0) == "601 items would decide"
    assert words.deciding(Ours(0.0, 0.0, 40), 0.0) == "48 items would decide"  # not 41: Wilson's half-width is 4.4
    said = words.deciding(Ours(20.0, 3.0, 164), 3.2)
    assert said == "no number of seeds here would decide: the published score alone is known to ±6.3 points"


def test_as_many_seeds_as_were_said_decide():
    one = Ours(50.0, (1 + 3**2 / 2) ** 0.5, 2500, seeds=2, spread=3.0)
    many = Ours(50.0, (1 + 3**2 / 5) ** 0.5, 2500, seeds=5, spread=3.0)
    assert words.word(words.difference(one, 50.0, 1.0)) == "undecided"
    assert words.word(words.difference(many, 50.0, 1.0)) == "agrees"
