"""PiSSA (arXiv 2404.02948): A and B are the r largest singular triples of W. On a quantized base: QPiSSA.

Deviations: with quantization, T alternations as in the released code (utils/init_qpissa.py), not as in the printed
Algorithm 1: T counts decompositions, and the last factors go with the last base.
"""

from typing import TYPE_CHECKING

from pissa_repro.methods import Matrix, Setting, Start

if TYPE_CHECKING:
    from pissa_repro.linalg.spectrum import Triples

__all__ = ["triples"]
DISPLAY, QUANTIZED_DISPLAY = "PiSSA", "QPiSSA"
RANDOM = False
TAKES = "the r largest singular triples of W"
LOOK = 2
OPTIONS = {"svd": "fast"}
QUANTIZED_OPTIONS = {"alternations": 1}


def start(weight: Matrix, setting: Setting) -> Start:
    """A, B <- rank-r split of the triples; the base is quantize(W - sBA)."""
    from pissa_repro.linalg.spectrum import split

    found = triples(setting)
    return Start(*split(found, setting.scaling), offset="start", excess=found.excess)


def triples(setting: Setting) -> "Triples":
    """R <- W; T times: U, S, Vh <- the r largest triples of R; base <- quantize(W - sBA); R <- W - base."""
    from pissa_repro.linalg.spectrum import split

    found = setting.spectrum.principal(setting.rank, setting.options["svd"])
    for _ in range(setting.options.get("alternations", 1) - 1):
        rest = setting.remainder(*split(found, setting.scaling))
        found = setting.spectrum.near(rest, found, setting.options["svd"])
    return found
