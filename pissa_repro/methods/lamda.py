"""LaMDA (arXiv 2406.12832): A is frozen, an r x r core trains, and B trains at first and freezes column by column.

Seen of the paper: its abstract. The form of the start is from memory.

Deviations: by `adaptive_ranks` (LaMDA++) flat spectra have more rank, as in the paper; the share of |W|^2 that decides
and the bounds, half of the rank and twice, are ours. The released code starts from LoRA's A and B, or LoftQ's, with a
random core; here all three are parts of W.
"""

import math
from collections.abc import Mapping
from typing import Any

from pissa_repro.methods import Matrix, Modules, Setting, Start, Training

DISPLAY, QUANTIZED_DISPLAY = "LaMDA", "QLaMDA"
RANDOM = False
TAKES = "the r largest singular triples of W"
LOOK = 10
OPTIONS = {"svd": "fast", "adaptive_ranks": False}
TRAINING_OPTIONS = {"freezing": 0.3}  # the share of the steps after which B is frozen; of the released code


def start(weight: Matrix, setting: Setting) -> Start:
    """A = V_r^T, C = diag(S_r) / s as a full matrix, B = U_r; the base is W - s B C A."""
    triples = setting.spectrum.principal(setting.rank, setting.options["svd"])
    return Start(
        A=triples.Vh.contiguous(),
        B=triples.U.contiguous(),
        core=(triples.S / setting.scaling).diag(),
        offset="start",
        excess=triples.excess,
        trained=("B", "core"),
    )


def entries(out: int, into: int, rank: int, options: Mapping[str, Any]) -> int:
    """B and the core."""
    return rank * (out + rank)


def summary(weight: Matrix, setting: Setting) -> "Matrix | None":
    """With `adaptive_ranks` (LaMDA++), all singular values, float64 (min(out, in),)."""
    from pissa_repro.linalg import gram

    return gram.values(weight) if setting.options["adaptive_ranks"] else None


def ranks(rank: int, summaries: Mapping[str, Matrix], options: Mapping[str, Any]) -> dict[str, int]:
    """More for a module whose spectrum is flat: the least ranks that keep the same share of |W|^2 in every module.

    The share is the one with which the ranks' mean is `rank`: of the triples of all modules, those stay that have the
    least of their module's |W|^2 before them. From half of `rank` to twice, and no more than a module's side.
    """
    import torch

    before = [_before(values, max(1, rank // 2))[: 2 * rank] for values in summaries.values()]
    owner = torch.arange(len(before)).repeat_interleave(torch.tensor([len(shares) for shares in before]))
    kept = torch.cat(before).argsort(stable=True)[: rank * len(before)]
    return dict(zip(summaries, owner[kept].bincount(minlength=len(before)).tolist(), strict=True))


def _before(values: Matrix, least: int) -> Matrix:
    """The share of |W|^2 before each singular value, falling (n,); none before the first `least`, which always stay."""
    energy = values.double().cpu().square()
    shares = ((energy.cumsum(0) - energy) / energy.sum()).nan_to_num(nan=1.0)  # of zeros nothing is to be kept
    shares[:least] = 0
    return shares


class _Freezing(Training):
    """B's columns freeze evenly over the first steps, from the smallest singular value on.

    A frozen column has no gradient, and the optimizer, which has momentum and decay, cannot move it.
    """

    def adjust(self, modules: Modules, step: int, steps: int) -> None:
        self.held = {}
        for name, parts in modules.items():
            free = _free(parts.B.shape[1], step, self.options["freezing"] * steps)
            self.held[name] = parts.B[:, free:].clone()
            if parts.B.grad is not None:
                parts.B.grad[:, free:] = 0

    def settle(self, modules: Modules, step: int, steps: int) -> None:
        for name, parts in modules.items():
            held = self.held[name]
            parts.B[:, parts.B.shape[1] - held.shape[1] :] = held


TRAINING = _Freezing


def _free(columns: int, step: int, last: float) -> int:
    """How many columns train in a step, from 1: all at first, none after the step `last`."""
    return math.ceil(columns * (1 - (step - 1) / last)) if step - 1 < last else 0
