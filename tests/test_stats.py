"""Means, standard errors, paired bootstrap: closed forms, oracles that count, coverage and level."""

import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pytest

from pissa_repro.results import stats
from pissa_repro.runtime.errors import UserError


def simulated(rng, seeds=3, items=300, delta=0.05, item_spread=0.2, seed_spread=0.02):
    """Scores (seeds, items) of two methods: shared item difficulty, a seed effect for each method, coin flips."""
    difficulty = rng.normal(0.5, item_spread, items)
    made = []
    for shift in (delta, 0.0):
        effect = rng.normal(0, seed_spread, (seeds, 1))
        made.append((rng.random((seeds, items)) < np.clip(difficulty + shift + effect, 0, 1)).astype(float))
    return made


def drawn_by_index(difference, draws, rng):
    """The crossed bootstrap as it is described: one draw is a list of seeds and a list of items."""
    seeds, items = difference.shape
    rows = rng.integers(0, seeds, (draws, seeds))
    columns = rng.integers(0, items, (draws, items))
    return np.array([difference[np.ix_(r, c)].mean() for r, c in zip(rows, columns, strict=True)])


def test_mean_and_sample_standard_deviation():
    assert stats.mean_std([1.0, 2.0, 4.0]) == pytest.approx((7 / 3, (7 / 3) ** 0.5))


def test_one_seed_has_no_spread_rather_than_zero():
    assert stats.mean_std([41.5]) == (41.5, None)


def test_standard_error_over_items_of_one_seed_is_binomial():
    """Pitfall 25."""
    scores = np.array([[1.0] * 30 + [0.0] * 70])
    assert stats.stderr_items(scores) == pytest.approx((0.3 * 0.7 / 99) ** 0.5)
    assert stats.stderr_total(scores) == stats.stderr_items(scores)
    assert stats.stderr_items(scores[:, :1]) is None


def test_standard_error_over_items_uses_the_mean_over_seeds():
    """Equal seeds teach nothing new; seeds that err on different items halve the error's square."""
    rng = np.random.default_rng(0)
    one = (rng.random((1, 20_000)) < 0.5).astype(float)
    two = np.vstack([one, rng.random((1, 20_000)) < 0.5])
    assert stats.stderr_items(np.vstack([one, one])) == pytest.approx(stats.stderr_items(one))
    assert stats.stderr_items(two) == pytest.approx(stats.stderr_items(one) / 2**0.5, rel=0.02)


def test_total_standard_error_adds_the_seeds_in_quadrature():
    scores = np.zeros((2, 100))
    scores[0, :40], scores[1, :50] = 1, 1
    seeds = np.std([0.4, 0.5], ddof=1) / 2**0.5
    assert stats.stderr_total(scores) == pytest.approx((stats.stderr_items(scores) ** 2 + seeds**2) ** 0.5)


def test_total_standard_error_is_the_spread_of_repeated_experiments():
    rng = np.random.default_rng(1)
    runs = [simulated(rng, seed_spread=0.05)[0] for _ in range(400)]
    spread = np.std([run.mean() for run in runs])
    assert np.mean([stats.stderr_total(run) ** 2 for run in runs]) ** 0.5 == pytest.approx(spread, rel=0.25)


def test_interval_of_one_seed_is_the_normal_one():
    a, b = simulated(np.random.default_rng(2), seeds=1, items=1319)
    found = stats.paired_bootstrap(a, b)
    half = stats.Z * (a - b).std(ddof=1) / 1319**0.5
    assert found.resampled == "items"
    assert found.mean == pytest.approx((a - b).mean())
    assert (found.mean - found.low, found.high - found.mean) == pytest.approx((half, half), rel=0.06)


def test_drawing_distinct_columns_is_the_same_as_drawing_items():
    rng = np.random.default_rng(3)
    a, b = simulated(rng, seeds=4, items=150, seed_spread=0.08)
    slow = drawn_by_index(a - b, 8000, rng)
    fast = stats._resampled_means(a - b, 8000, rng)
    assert fast.std() == pytest.approx(slow.std(), rel=0.05)
    assert np.quantile(fast, [0.025, 0.975]) == pytest.approx(np.quantile(slow, [0.025, 0.975]), abs=0.1 * slow.std())


@pytest.mark.parametrize(
    ("seeds", "items", "seed_spread", "wider"),
    [
        (1, 300, 0.0, 1.15),
        (2, 1319, 0.015, 5.0),
        (3, 300, 0.0, 2.3),
        (3, 300, 0.05, 2.3),
        (3, 1319, 0.03, 2.3),
        (3, 5000, 0.015, 2.3),
        (3, 5000, 0.03, 2.3),
        (5, 300, 0.05, 1.6),
    ],
)
def test_intervals_hold_the_true_difference(seeds, items, seed_spread, wider):
    """In 95 of 100 cases or little less: 0.92 is 0.95 less two standard errors of 300 repetitions.

    wider: a bound on the mean width, relative to that of an interval that knows the true spread. Seeds
    that are few must make it wide: the quantile of t is 12.7 for two of them, 4.3 for three.
    """
    rng = np.random.default_rng(4)
    held, widths, means = 0, [], []
    for number in range(300):
        a, b = simulated(rng, seeds=seeds, items=items, seed_spread=seed_spread, item_spread=0.1)
        found = stats.paired_bootstrap(a, b, draws=200, seed=number)
        held += found.low <= 0.05 <= found.high
        widths.append(found.high - found.low)
        means.append(found.mean)
    assert held / 300 > 0.92
    assert np.mean(widths) < wider * 2 * stats.Z * np.std(means)  # not held by being useless


def test_margin_of_seeds_by_hand():
    """Rows' means are 0.1, 0.2 and 0.6, equal on every item: only t with two degrees of freedom is left."""
    matrix = np.tile([[0.1], [0.2], [0.6]], 50)
    assert stats.seed_margin(matrix) == pytest.approx(4.302653 * np.std([0.1, 0.2, 0.6], ddof=1) / 3**0.5)
    assert stats.seed_margin(matrix[:, :1]) == pytest.approx(stats.seed_margin(matrix))
    same = np.tile(np.arange(50) % 2, (3, 1))  # equal seeds: only t over items is left
    assert stats.seed_margin(same) == pytest.approx(2.009575 * np.std(same[0], ddof=1) / 50**0.5)
    both = matrix + same  # two equal variances would have the mean of both quantiles
    v, w = np.var([0.1, 0.2, 0.6], ddof=1) / 3, np.var(same[0], ddof=1) / 50
    assert stats.seed_margin(both) == pytest.approx((4.302653 * v + 2.009575 * w) / (v + w) ** 0.5)


def test_one_seed_is_not_widened():
    a, b = simulated(np.random.default_rng(2), seeds=1)
    means = stats._resampled_means(a - b, stats.DRAWS, np.random.default_rng(0))
    found = stats.paired_bootstrap(a, b)
    assert (found.low, found.high) == tuple(np.quantile(means, [0.025, 0.975]))


def test_resampling_seeds_widens_the_interval_when_seeds_disagree():
    rng = np.random.default_rng(5)
    b = (rng.random((3, 1000)) < 0.5).astype(float)
    a = b.copy()
    a[0] = 1.0  # one seed of three is far better, the others are equal
    found = stats.paired_bootstrap(a, b)
    assert found.mean > 0.15
    assert found.verdict == "no difference shown"
    assert found.low == pytest.approx(found.mean - stats.seed_margin(a - b)) and found.low < 0
    assert found.resampled == "items and seeds, widened for few seeds"


def test_pairing_removes_the_items_difficulty():
    easy = np.tile([0.0, 1.0], 50)
    a = b = np.vstack([easy, easy])
    same = stats.paired_bootstrap(a, b)
    share = stats.Z**2 / (100 + stats.Z**2)  # Wilson's bound on 0 of 100 items, not of 200
    assert (same.mean, same.verdict, same.resampled) == (0.0, "no difference shown", stats.ALL_EQUAL)
    assert (same.low, same.high) == pytest.approx((-share, share))


@pytest.mark.parametrize(
    ("a", "b", "low", "high"),
    [(0.0, 0.0, -0.0876, 0.0876), (1.0, 1.0, -0.0876, 0.0876), (1.0, 0.0, 0.8247, 1.0), (6.0, 4.0, 1.2990, 2.3505)],
)
def test_no_interval_has_no_width(a, b, low, high):
    """Case 10: 0 of 40 against 0 of 40 was +0.00 [+0.00, +0.00]. Other scores than 0 and 1 span 0 to the largest."""
    for seeds in (1, 3):
        found = stats.paired_bootstrap(np.full((seeds, 40), a), np.full((seeds, 40), b))
        assert found.mean == a - b
        assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)


def test_wilson_and_newcombe_as_printed():
    """Newcombe 1998, Statistics in Medicine 17, 857-872 (Wilson: 81 of 263) and 873-890 (56 of 70 less 48 of 80)."""
    assert stats.wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert stats.wilson(0.0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert stats.unpaired((56 / 70, 70), (48 / 80, 80)) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert stats.unpaired((0.0, 10), (0.0, 10)) == pytest.approx((-0.2775, 0.2775), abs=5e-5)
    assert np.isnan(stats.unpaired((float("nan"), 9), (0.5, 9))).all()


def test_verdicts():
    a, b = simulated(np.random.default_rng(6), items=2000, delta=0.2)
    assert stats.paired_bootstrap(a, b).verdict == "better"
    assert stats.paired_bootstrap(b, a).verdict == "worse"


def test_the_same_call_gives_the_same_interval_in_any_order_of_items():
    rng = np.random.default_rng(7)
    a, b = simulated(rng)
    order = rng.permutation(a.shape[1])
    found = stats.paired_bootstrap(a, b)
    assert stats.paired_bootstrap(a, b) == found
    mixed = stats.paired_bootstrap(a[:, order], b[:, order])
    assert (mixed.low, mixed.high) == pytest.approx((found.low, found.high))


@pytest.mark.parametrize("shape", [(3, 299), (2, 300)])
def test_different_items_or_seeds_are_refused_and_both_are_named(shape):
    with pytest.raises(UserError, match=rf"PiSSA has 3 seeds x 300 items and LoRA has {shape[0]} seeds x {shape[1]}"):
        stats.paired_bootstrap(np.zeros((3, 300)), np.zeros(shape), ("PiSSA", "LoRA"))


def test_no_items_are_refused():
    with pytest.raises(UserError, match="0 items"):
        stats.paired_bootstrap(np.zeros((3, 0)), np.zeros((3, 0)))


@pytest.mark.parametrize("kind", ["zeros and ones", "all different"])
def test_fast_and_small_at_the_size_of_gsm8k(kind):
    rng = np.random.default_rng(8)
    a, b = simulated(rng, items=1319) if kind == "zeros and ones" else rng.random((2, 3, 1319))
    tracemalloc.start()
    before = time.process_time()
    stats.paired_bootstrap(a, b)
    seconds = time.process_time() - before
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6
    assert seconds < 5  # 0.02 s and 1 s on an idle core


def test_statistics_import_without_scipy():
    code = "import sys, pissa_repro.results.stats; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
