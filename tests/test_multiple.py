"""Many comparisons: p-values that belong to their intervals, Holm's correction, equivalence; simulated error rates.

The bounds of the simulations are the nominal rates and three standard errors of 1,000 draws.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr, stdtr
from scipy.stats import ttest_rel

from pissa_repro.paper import words
from pissa_repro.paper.words import Ours
from pissa_repro.results import stats
from pissa_repro.results.multiple import DELTAS, holm, rejected, within
from pissa_repro.results.pvalues import ALPHA, inverted, smallest_p

DRAWS = 1000


def above(rate: float) -> float:
    """A bound on an observed rate: three standard errors above the true one."""
    return rate + 3 * (rate * (1 - rate) / DRAWS) ** 0.5


def against(a: float, b: float, items: int):
    """Our score and a published one with its standard error, both in percent, of independent items."""
    return words.difference(Ours(a, None, items), b, (b * (100 - b) / items) ** 0.5)


def drawn(rng, shares, items):
    """DRAWS x len(shares) scores in percent."""
    return 100 * rng.binomial(items, shares, (DRAWS, len(shares))) / items


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([0.2]) == [0.2] and holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_lies_between_no_correction_and_bonferronis(values):
    corrected = holm(values)
    assert all(p <= q <= min(1.0, len(values) * p) + 1e-12 for p, q in zip(values, corrected, strict=True))
    order = np.argsort(values, kind="stable")
    assert (np.diff(np.array(corrected)[order]) >= 0).all()


@given(st.integers(0, 200), st.integers(0, 200))
def test_a_p_value_says_what_its_interval_says(a, b):
    pair = (a / 200, 200), (b / 200, 200)
    low, high = stats.unpaired(*pair)
    p = inverted(lambda quantile: stats.unpaired(*pair, quantile))
    assert rejected(p) == (low > 0 or high < 0) and 0 < p <= 1


def test_the_p_value_of_many_items_is_the_normal_one():
    a, b, items = 0.53, 0.49, 13190
    p = inverted(lambda quantile: stats.unpaired((a, items), (b, items), quantile))
    z = (a - b) / ((a * (1 - a) + b * (1 - b)) / items) ** 0.5
    assert p == pytest.approx(2 * ndtr(-z), rel=0.05)
    assert np.isnan(inverted(lambda quantile: stats.unpaired((float("nan"), 9), (0.5, 9), quantile)))


def test_the_p_value_over_few_seeds_is_that_of_t():
    """Rows' means 0.1, 0.2 and 0.6, equal on every item: two degrees of freedom."""
    matrix = np.tile([[0.1], [0.2], [0.6]], 50)
    t = 0.3 / (np.std([0.1, 0.2, 0.6], ddof=1) / 3**0.5)
    p = smallest_p(lambda p: bool(stats.seed_margin(matrix, 1 - p) < 0.3))
    assert p == pytest.approx(2 * stdtr(2, -t), rel=1e-3)


def test_paired_p_values_say_what_their_intervals_say():
    rng = np.random.default_rng(0)
    said = set()
    for number in range(60):
        seeds, gain = 1 + number % 3, 0.12 * (number % 4) / 3
        a, b = (rng.random((2, seeds, 150)) < np.array([0.4 + gain, 0.4])[:, None, None]).astype(float)
        found = stats.paired_bootstrap(a, b, draws=400, seed=number)
        assert rejected(found.p) == (found.verdict != "no difference shown")
        said.add(rejected(found.p))
    assert said == {True, False}
    assert stats.paired_bootstrap(np.ones((2, 40)), np.ones((2, 40))).p == 1
    assert stats.paired_bootstrap(np.ones((2, 40)), np.zeros((2, 40))).p < 1e-6


def test_with_one_seed_it_is_the_paired_t_test():
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(1, 40)) for _ in range(2))
    assert stats.t_p(a - b) == pytest.approx(ttest_rel(a[0], b[0]).pvalue, rel=1e-6)
    assert stats.t_p(np.ones((2, 10))) == pytest.approx(2 * 0.5**10) and stats.t_p(np.zeros((2, 10))) == 1


@pytest.mark.parametrize(
    ("low", "high", "delta"),
    [(-1.0, 1.0, 1), (-1.1, 0.2, 2), (0.5, 2.0, 2), (-2.5, 2.9, 3), (-3.1, 0.0, None), (float("nan"), 0.0, None)],
)
def test_the_smallest_margin_that_holds(low, high, delta):
    assert within(low, high) == delta


def test_intervals_hold_the_true_difference_in_95_of_100_cases():
    rng = np.random.default_rng(1)
    found = [against(*pair, 1319) for pair in drawn(rng, (0.53, 0.50), 1319)]
    held = np.mean([interval.low <= 3 <= interval.high for interval in found])
    assert 1 - above(1 - stats.LEVEL) < held < above(stats.LEVEL)


@pytest.mark.parametrize("true", DELTAS)
def test_equivalence_is_said_wrongly_in_25_of_1000_cases_at_most(true):
    """At the edge: the true difference is delta, so that each smaller or equal delta is wrong. MATH's items."""
    rng = np.random.default_rng(2)
    found = [against(*pair, 5000) for pair in drawn(rng, (0.08 + true / 100, 0.08), 5000)]
    wrong = [delta is not None and delta <= true for delta in (within(i.low, i.high) for i in found)]
    assert np.mean(wrong) < above(ALPHA / 2)


def test_equivalence_is_seen_where_there_is_no_difference():
    rng = np.random.default_rng(3)
    found = [words.word(against(*pair, 5000)) for pair in drawn(rng, (0.08, 0.08), 5000)]
    assert np.mean([word.startswith("equivalent") for word in found]) > 0.9


@pytest.mark.parametrize("true", [0, 2])
def test_holm_keeps_the_family_wise_error(true):
    """Eight comparisons, of which some differ in truth: those without a difference are seldom called different."""
    rng = np.random.default_rng(4)
    shares = np.array([0.5] * 16)
    shares[:true] = 0.6
    scores = drawn(rng, shares, 400).reshape(DRAWS, 2, 8)
    ps = np.array([[against(a, b, 400).p for a, b in zip(*pairs, strict=True)] for pairs in scores])
    corrected = np.array([holm(list(row)) for row in ps])
    same = slice(true, None)
    assert np.mean((corrected[:, same] <= ALPHA).any(axis=1)) < above(ALPHA)
    assert np.mean((ps[:, same] <= ALPHA).any(axis=1)) > 3 * ALPHA, "without a correction"
    assert not true or np.mean(corrected[:, :true] <= ALPHA) > 0.3
