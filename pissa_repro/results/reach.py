"""After how many steps a training first has the final loss of another one, from the losses of every step."""

import numpy as np

from pissa_repro.results.curves import Curve

TENTH = 10  # the final loss is the mean over the last tenth of the steps, so curves are smoothed over as many


def width(steps: int) -> int:
    """Over how many steps a curve of so many is smoothed: as the final loss in the record of a training."""
    return max(1, steps // TENTH)


def smoothed(losses: np.ndarray, over: int) -> np.ndarray:
    """The mean of each `over` losses in a row, by the last one: (seeds, steps - over + 1) of losses (seeds, steps)."""
    sums = np.cumsum(np.pad(losses, ((0, 0), (1, 0))), axis=1)
    return (sums[:, over:] - sums[:, :-over]) / over


def reached(curve: Curve, reference: Curve) -> list[int | None]:
    """For each seed the first step at which the smoothed loss is at or below the reference's final one; None for never.

    The final loss is that of the reference at the same seed; where the seeds are not as many, their mean. Both are
    smoothed over the same number of steps, so the reference itself gets there at its last step or before.
    """
    over = width(len(reference.steps))
    finals = smoothed(reference.values, over)[:, -1]
    if len(finals) != len(curve.values):
        finals = np.full(len(curve.values), finals.mean())
    if len(curve.steps) < over:
        return [None] * len(curve.values)
    below = smoothed(curve.values, over) <= finals[:, None] * (1 + 1e-12)  # the sums' last bits
    first = below.argmax(axis=1) + over - 1
    return [int(curve.steps[i]) if row.any() else None for i, row in zip(first, below, strict=True)]
