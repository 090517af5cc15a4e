"""LoRA-One (arXiv 2502.01235): BA is the best rank r of one step of gradient descent, and both share its root.

A = sqrt(S / gamma) V^T, B = U sqrt(S / gamma) of the r largest triples U S V^T of -dL/dW, on the untouched W: the start
is W after the best step of rank r with rate s / gamma, which is how the authors' README describes it. (Its formulas
print S in both factors, which would be no such step.) The paper itself was seen in its abstract only.

Deviations: the optional preconditioners of the steps that follow are left out, as in the released scripts.
"""

from collections.abc import Mapping
from typing import Any

from pissa_repro.methods import Matrix, Setting, Start

DISPLAY, QUANTIZED_DISPLAY = "LoRA-One", "QLoRA-One"
RANDOM = False
LOOK = 20
IGNORES_SCALING = True
MOVES = "the start is W after one step of gradient descent of rank r"
OPTIONS = {"svd": "fast", "gamma": 128.0}  # of the released commands
STATISTICS = {"gradient": {"rows": 64}}


def refuse_options(options: Mapping[str, Any]) -> str | None:
    """The factors are divided by its root."""
    return None if options["gamma"] > 0 else f"option 'gamma' is {options['gamma']}; it must be a number above 0"


def start(weight: Matrix, setting: Setting) -> Start:
    """A, B <- split of the r largest triples of -gradient / gamma; the base is W."""
    from pissa_repro.linalg.spectrum import split

    gradient = setting.spectrum.of(setting.statistics["gradient"], "its gradient")
    triples = gradient.principal(setting.rank, setting.options["svd"])
    a, b = split(triples, setting.options["gamma"])
    return Start(A=a, B=-b, excess=triples.excess)
