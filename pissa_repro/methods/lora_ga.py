"""LoRA-GA (arXiv 2407.05000): A and B are singular vectors of the gradient, so that the first step is near its descent.

A = c V[:, :r]^T, B = c U[:, r:2r], c = d_out^(1/4) / sqrt(gamma), and the base is W - sBA (theorems 3.1 and 3.2,
algorithm 1). A first step of gradient descent then moves W by the best rank 2r of the gradient. With 2r above the
gradient's smaller side, B has the last r vectors, and A's first and B's overlap.

Deviations: of PEFT's `lora_ga`, not of the paper: there A is not scaled, and B is multiplied by the gradient's singular
values, so that its start shrinks with the loss's gradient.
"""

from collections.abc import Mapping
from typing import Any

from pissa_repro.methods import Matrix, Setting, Start

DISPLAY, QUANTIZED_DISPLAY = "LoRA-GA", "QLoRA-GA"
RANDOM = False
TAKES = "singular vectors of the gradient of W"
LOOK = 19
IGNORES_SCALING = True
OPTIONS = {"svd": "fast", "gamma": 64.0}  # of the authors' first command; their config file has 16
STATISTICS = {"gradient": {"rows": 64}}


def refuse_options(options: Mapping[str, Any]) -> str | None:
    """The factors are divided by its root."""
    return None if options["gamma"] > 0 else f"option 'gamma' is {options['gamma']}; it must be a number above 0"


def start(weight: Matrix, setting: Setting) -> Start:
    """A <- c V[:, :r]^T, B <- c U[:, r:2r] of the gradient; the base is W - sBA."""
    rank = setting.rank
    count = min(2 * rank, *weight.shape)
    gradient = setting.spectrum.of(setting.statistics["gradient"], "its gradient")
    triples = gradient.principal(count, setting.options["svd"])
    size = len(weight) ** 0.25 / setting.options["gamma"] ** 0.5
    return Start(A=size * triples.Vh[:rank], B=size * triples.U[:, count - rank :], offset="start")
