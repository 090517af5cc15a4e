"""KaSA (arXiv 2412.06071): the r smallest singular triples of W leave; U diag(sigma) V^T trains, held near an SVD.

Seen of the paper: its abstract. The terms of the penalty are those of PEFT.
"""

from collections.abc import Mapping
from typing import Any

from pissa_repro.methods import Matrix, Modules, Setting, Start, Training, lora

DISPLAY, QUANTIZED_DISPLAY = "KaSA", "QKaSA"
RANDOM = True
LOOK = 9
MOVES = "the r smallest singular triples of W are taken out as noise, and nothing is in their place at the start"
TRAINING_OPTIONS = {"beta": 1e-4, "gamma": 1e-3}  # PEFT's, after the reference's GLUE runs


def start(weight: Matrix, setting: Setting) -> Start:
    """The base is W without its r smallest triples; A and B as in LoRA, sigma ~ N(0, 1) (the same as PEFT's).

    B = 0, so that only what is taken out changes the model. With r the smaller side nothing of W is left.
    """
    import torch

    from pissa_repro.linalg.spectrum import split

    begun = lora.start(weight, setting)
    sigma = torch.randn(setting.rank, generator=setting.generator)
    noise = split(setting.spectrum.minor(setting.rank), setting.scaling)
    return Start(begun.A, begun.B, offset=noise, core=sigma.to(weight))


def entries(out: int, into: int, rank: int, options: Mapping[str, Any]) -> int:
    """A, B and sigma."""
    return rank * (out + into + 1)


class _NearAnSVD(Training):
    """beta |sigma|^2 + gamma (|U^T U - 1| + |V^T V - 1|), summed over the modules."""

    def penalty(self, modules: Modules) -> Matrix:
        import torch

        from pissa_repro.linalg.orthonormal import departure

        sigmas = [parts.core for parts in modules.values() if parts.core is not None]
        size = torch.stack([sigma.float().square().sum() for sigma in sigmas]).sum()
        sides = [side for parts in modules.values() for side in (parts.A, parts.B.mT)]
        off = torch.stack([departure(side) for side in sides]).sum()
        return self.options["beta"] * size + self.options["gamma"] * off


TRAINING = _NearAnSVD
