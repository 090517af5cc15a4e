"""The noise floor: how far two runs of one setting lie apart."""

import numpy as np
import pytest

from pissa_repro.results.noise import repeatability


def test_by_hand():
    """Spreads of 1 over three runs and of 2 over two: s^2 = (2 * 1 + 1 * 4) / 3."""
    runs = [[1.0, 2.0, 3.0], [0.0, 8**0.5], [7.0]]
    assert repeatability(runs) == pytest.approx(1.959964 * 2**0.5 * 2**0.5)
    assert repeatability([[7.0], [1.0]]) is None and repeatability([]) is None


def test_two_runs_lie_within_it_in_95_of_100_cases():
    rng = np.random.default_rng(0)
    limits = [repeatability(rng.normal(0, 1, (8, 3)).tolist()) for _ in range(1000)]
    held = np.mean(np.abs(rng.normal(0, 1, 1000) - rng.normal(0, 1, 1000)) <= limits)
    assert 0.91 < held < 0.97  # s is known from 16 degrees of freedom: 0.934 by t
