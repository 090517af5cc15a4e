"""PiSSA + AdaLoRA (PiSSA v4, appendix A and Table 5): U, S and V of the r largest triples train apart.

AdaLoRA's penalty keeps U and V orthogonal, which they are at the start. Its pruning is left out, as the appendix says.
"""

from collections.abc import Mapping
from typing import Any

from pissa_repro.methods import Matrix, Setting, Start, adalora, pissa

DISPLAY, QUANTIZED_DISPLAY = "PiSSA + AdaLoRA", "QPiSSA + AdaLoRA"
RANDOM = False
TAKES = pissa.TAKES
LOOK = 13
OPTIONS = pissa.OPTIONS
QUANTIZED_OPTIONS = pissa.QUANTIZED_OPTIONS
TRAINING_OPTIONS = {"orthogonality": 0.1}  # not printed: the weight that AdaLoRA has for most tasks
TRAINING = adalora.Orthogonal


def start(weight: Matrix, setting: Setting) -> Start:
    """B = U, the core = S / s, A = Vh of PiSSA's triples; the base is W - s B C A, the same as PiSSA's."""
    triples = pissa.triples(setting)
    core = triples.S / setting.scaling
    return Start(triples.Vh.clone(), triples.U.clone(), offset="start", excess=triples.excess, core=core)


def entries(out: int, into: int, rank: int, options: Mapping[str, Any]) -> int:
    """U, S and V."""
    return rank * (out + into + 1)
