"""After how many steps a training has the final loss of another one."""

from statistics import fmean

import numpy as np
from figured import made

from pissa_repro.exhibits import output
from pissa_repro.results.curves import Curve
from pissa_repro.results.reach import reached, smoothed

STEPS = 36  # of the fixture: smoothed over 3


def first_step(factor, target):
    """By hand: the first step whose mean of three losses factor * 5 / t is at or below the target."""
    return next(t for t in range(3, STEPS + 1) if factor * fmean([5 / s for s in (t - 2, t - 1, t)]) <= target)


def test_the_table_says_when_full_fine_tuning_has_the_loss_of_lora(tmp_path):
    sweep = made(tmp_path, steps=STEPS)  # factors: 1.0 and 1.1 of full, 1.2 and 1.3 of lora
    full, lora, quantized = output(sweep, "table", "extra/reach").exhibit.make(sweep, tmp_path).rows
    ends = [factor * fmean([5 / s for s in (34, 35, 36)]) for factor in (1.2, 1.3)]
    wanted = [first_step(1.0, ends[0]), first_step(1.1, ends[1])]
    assert (full["steps_low"], full["steps_high"], full["reached"]) == (min(wanted), max(wanted), 2)
    assert (lora["reference"], lora["steps_median"], lora["share_of_reference"]) == ("reference", STEPS, 1)
    assert full["reference"] == "LoRA" and full["share_of_reference"] == sum(wanted) / 2 / STEPS
    assert quantized["reference"] == "reference", "on nf4 it is compared with itself"


def test_never_is_never_and_not_the_last_step():
    steps = np.arange(1, 21)
    high, low = (Curve(steps, np.full((2, 20), value)) for value in (2.0, 1.0))
    assert reached(high, low) == [None, None] and reached(low, high) == [2, 2]
    assert reached(low, low) == [2, 2], "a flat curve is there from its first mean on"


def test_a_noisy_low_step_alone_is_not_enough():
    steps = np.arange(1, 41)
    noisy = np.full((1, 40), 2.0)
    noisy[0, 5] = 0.0
    assert reached(Curve(steps, noisy), Curve(steps, np.ones((1, 40)))) == [None]


def test_curves_of_other_lengths_and_seeds():
    long, short = (Curve(np.arange(1, n + 1), np.ones((2, n))) for n in (40, 3))
    assert reached(short, long) == [None, None]
    one = Curve(long.steps, np.ones((1, 40)))
    assert reached(one, long) == [4]
    assert smoothed(np.arange(6.0)[None], 3).tolist() == [[1, 2, 3, 4]]
