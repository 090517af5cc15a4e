"""P-values of paired differences, and Holm's correction."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from pissa_repro.results.multiple import holm, paired
from pissa_repro.results.stats import seed_margin


def test_holm_by_hand():
    """Four p-values in falling multiples: 4 x 0.005, 3 x 0.01, 2 x 0.03; 0.04 cannot fall below the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


def test_with_one_seed_it_is_the_paired_t_test():
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(1, 40)) for _ in range(2))
    assert paired(a, b) == pytest.approx(scipy_stats.ttest_rel(a[0], b[0]).pvalue, rel=1e-9)


def test_it_is_below_five_percent_where_the_interval_does_not_hold_0():
    rng, seen = np.random.default_rng(1), set()
    for _ in range(200):
        a = rng.normal(rng.uniform(0, 0.6), 1, size=(3, 50)) + rng.normal(0, 0.1, size=(3, 1))
        b = rng.normal(size=(3, 50))
        shown = abs((a - b).mean()) > seed_margin(a - b)
        seen.add(shown)
        assert (paired(a, b) < 0.05) is bool(shown)
    assert seen == {True, False}


def test_without_any_spread_it_is_the_sign_test():
    ones, zeros = np.ones((2, 10)), np.zeros((2, 10))
    assert paired(ones, ones) == 1.0 and paired(ones, zeros) == pytest.approx(2 * 0.5**10)


def test_few_false_alarms_over_a_table():
    """Where all ten methods are equally good, a difference is shown after Holm in at most 5 of 100 tables."""
    rng, alarms, tables = np.random.default_rng(2), 0, 60
    for _ in range(tables):
        scores = (rng.random((6, 3, 40)) < 0.5).astype(float)
        p = [paired(scores[i], scores[j]) for i in range(6) for j in range(i)]
        alarms += min(holm(p)) < 0.05
    assert alarms <= 0.05 * tables + 2
