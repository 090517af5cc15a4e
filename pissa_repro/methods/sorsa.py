"""SORSA (arXiv 2409.00055): U, S and V of the r largest singular triples of W train; U and V are held orthonormal.

Seen of the paper: its abstract.

Deviations: the gradient of the regularizer is added before clipping, the released code adds it after.
"""

from collections.abc import Mapping
from typing import Any

from pissa_repro.methods import Matrix, Modules, Setting, Start, Training

DISPLAY, QUANTIZED_DISPLAY = "SORSA", "QSORSA"
RANDOM = False
TAKES = "the r largest singular triples of W"
LOOK = 8
OPTIONS = {"svd": "fast"}
TRAINING_OPTIONS = {"gamma": 4e-4}  # of the released script for LLaMA-2-7B, at a learning rate of 3e-5


def start(weight: Matrix, setting: Setting) -> Start:
    """B = U_r, C = diag(S_r) / s, A = V_r^T; the base is W - s B C A."""
    triples = setting.spectrum.principal(setting.rank, setting.options["svd"])
    return Start(
        A=triples.Vh.contiguous(),
        B=triples.U.contiguous(),
        core=triples.S / setting.scaling,
        offset="start",
        excess=triples.excess,
    )


def entries(out: int, into: int, rank: int, options: Mapping[str, Any]) -> int:
    """A, B and the diagonal."""
    return rank * (out + into + 1)


class _Orthonormal(Training):
    """gamma / eta times the mean of |U^T U - 1| and |V^T V - 1| over all modules, as in the released code.

    The paper takes a step of size gamma on the regularizer beside one of size eta on the loss; one optimizer does both
    where the regularizer's weight is gamma over the largest learning rate.
    """

    def optimizer(self, modules: Modules, groups: list[dict[str, Any]], adam: Mapping[str, Any]) -> None:
        """The recipe's own; here only the learning rate is read."""
        self.weight = self.options["gamma"] / adam["lr"]

    def penalty(self, modules: Modules) -> Matrix:
        import torch

        from pissa_repro.linalg.orthonormal import departure

        sides = [side for parts in modules.values() for side in (parts.A, parts.B.mT)]
        return self.weight * torch.stack([departure(side) for side in sides]).mean()


TRAINING = _Orthonormal
