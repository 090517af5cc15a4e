"""PiSSA (arXiv 2404.02948): A and B are the r largest singular triples of W. On a quantized base: QPiSSA.

With quantization, T alternations as in the released code (utils/init_qpissa.py), not as in the
printed Algorithm 1: T counts decompositions, and the last factors go with the last base.
"""

from pissa_repro.methods import Matrix, Setting, Start

DISPLAY, QUANTIZED_DISPLAY = "PiSSA", "QPiSSA"
RANDOM = False
TAKES = "the r largest singular triples of W"
LOOK = 2
OPTIONS = {"svd": "fast"}
QUANTIZED_OPTIONS = {"alternations": 1}


def start(weight: Matrix, setting: Setting) -> Start:
    """R <- W; T times: A, B <- rank-r split of R; base <- quantize(W - sBA); R <- W - base."""
    from pissa_repro.linalg.spectrum import split

    triples = setting.spectrum.principal(setting.rank, setting.options["svd"])
    for _ in range(setting.options.get("alternations", 1) - 1):
        rest = setting.remainder(*split(triples, setting.scaling))
        triples = setting.spectrum.near(rest, triples, setting.options["svd"])
    return Start(*split(triples, setting.scaling), offset="start", excess=triples.excess)
