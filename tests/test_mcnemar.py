"""McNemar's exact test: by hand, against an oracle in whole numbers, its level and power."""

import math

import numpy as np
import pytest

from pissa_repro.results import stats
from pissa_repro.runtime.errors import UserError


def discordant(only_a, only_b, both=7, none=5):
    """Scores (items,) of two methods of which so many items are right in one only, in both, in none."""
    a = [1.0] * only_a + [0.0] * only_b + [1.0] * both + [0.0] * none
    b = [0.0] * only_a + [1.0] * only_b + [1.0] * both + [0.0] * none
    return np.array(a), np.array(b)


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [
        (5, 0, 2 / 32),
        (6, 0, 2 / 64),
        (8, 1, 2 * (1 + 9) / 512),
        (10, 2, 2 * (1 + 12 + 66) / 4096),
        (3, 2, 1.0),  # 2 * (1 + 5 + 10) / 32
        (4, 4, 1.0),  # twice a tail that holds the middle is above 1
        (1, 0, 1.0),
    ],
)
def test_mcnemar_by_hand(only_a, only_b, p):
    found = stats.mcnemar(*discordant(only_a, only_b))
    assert (found.only_a, found.only_b) == (only_a, only_b)
    assert found.p == pytest.approx(p, rel=1e-12)
    turned = stats.mcnemar(*reversed(discordant(only_a, only_b)))
    assert (turned.only_a, turned.only_b, turned.p) == (only_b, only_a, found.p)


def test_without_discordant_items_mcnemar_says_nothing():
    assert stats.mcnemar(*discordant(0, 0)) == stats.McNemar(0, 0, 1.0)
    assert stats.mcnemar(*discordant(0, 0, both=0, none=0)).p == 1.0


@pytest.mark.parametrize(("only_a", "only_b"), [(121, 59), (40, 41), (300, 200), (1000, 900), (0, 60)])
def test_mcnemar_is_the_binomial_sum_in_whole_numbers(only_a, only_b):
    """Also scipy's binomial test: with probability 1/2 every two-sided definition is the doubled tail."""
    from scipy.stats import binomtest

    n = only_a + only_b
    tail = sum(math.comb(n, k) for k in range(min(only_a, only_b) + 1))
    p = stats.mcnemar(*discordant(only_a, only_b)).p
    assert p == pytest.approx(min(1.0, 2 * tail / 2**n), rel=1e-9)
    assert p == pytest.approx(binomtest(only_a, n).pvalue, rel=1e-9)


def test_mcnemar_of_very_many_items_is_the_normal_one():
    """b + c = 200,000, b - c = 1000: z with continuity correction is 999 / sqrt(200,000) = 2.2338, p = 0.02549."""
    found = stats.mcnemar(*discordant(100_500, 99_500))
    assert found.p == pytest.approx(math.erfc(999 / 200_000**0.5 / 2**0.5), rel=1e-3)
    assert found.p == pytest.approx(0.0255, abs=1e-4)
    assert stats.mcnemar(*discordant(100_000, 0)).p == 0.0  # 2 ** -99,999 is below the smallest float


@pytest.mark.parametrize(("discordance", "items"), [(0.1, 100), (0.3, 250), (0.5, 1319)])
def test_mcnemar_holds_its_level_and_has_power(discordance, items):
    """Equally good methods are called different in at most 5 of 100 cases; others, in more."""
    rng = np.random.default_rng(9)

    def rejected(share):  # of the discordant items, how many a gets right
        count = 0
        for _ in range(2000):
            differ, a = rng.random(items) < discordance, rng.random(items) < share
            count += stats.mcnemar(a, a ^ differ).p <= 0.05
        return count / 2000

    assert 0.005 < rejected(0.5) < 0.05 + 0.01  # 0.01: two standard errors of the simulation
    assert rejected(0.9) > 0.6  # 0.67 with ten discordant items, 1 with hundreds


@pytest.mark.parametrize(
    ("a", "b"), [([0.0, 0.5], [0.0, 1.0]), ([1.0], [0.0, 1.0]), ([[1.0]], [[0.0]]), ([np.nan], [1.0])]
)
def test_mcnemar_refuses_what_is_not_right_or_wrong_on_the_same_items(a, b):
    with pytest.raises(UserError, match="needs 0 or 1 for the same items"):
        stats.mcnemar(np.array(a), np.array(b))
