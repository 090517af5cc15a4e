"""LoRA-XS (arXiv 2405.17604): A and B are principal triples of W, frozen; an r x r matrix between them trains.

Seen of the paper: its abstract. Which factor holds S, and R's deviation, are from memory.

Deviations: the paper multiplies from the other side, x A R B with A = U_r S_r, so that S_r is on the side of the input
there, too. s multiplies R, as in LoRA.
"""

from collections.abc import Mapping
from typing import Any

from pissa_repro.methods import Matrix, Setting, Start

DISPLAY, QUANTIZED_DISPLAY = "LoRA-XS", "QLoRA-XS"
RANDOM = True
LOOK = 7
OPTIONS = {"svd": "fast", "sigma": 1e-5}
IGNORES_SCALING = True
MOVES = "R starts as Gaussian numbers of standard deviation sigma, as in the paper, and not at zero (option sigma: 0)"


def start(weight: Matrix, setting: Setting) -> Start:
    """h = W x + s B R A x, with A = S_r V_r^T and B = U_r of W = U S V^T, and R ~ N(0, sigma^2)."""
    import torch

    triples = setting.spectrum.principal(setting.rank, setting.options["svd"])
    r = torch.randn(setting.rank, setting.rank, generator=setting.generator) * setting.options["sigma"]
    return Start(
        A=(triples.S[:, None] * triples.Vh).contiguous(),
        B=triples.U.contiguous(),
        core=r.to(weight),
        excess=triples.excess,
        trained=("core",),
    )


def entries(out: int, into: int, rank: int, options: Mapping[str, Any]) -> int:
    """R alone."""
    return rank**2
