"""PiSSA (arXiv 2404.02948): A and B are the r largest singular triples of W. On a quantized base: QPiSSA.

With quantization, T alternations as in the released code (utils/init_qpissa.py), not as in the
printed Algorithm 1: T counts decompositions, and the last factors go with the last base.
"""

from pissa_repro.methods import Setting, Start

DISPLAY, QUANTIZED_DISPLAY = "PiSSA", "QPiSSA"
RANDOM = False
QUANTIZED_OPTIONS = {"alternations": 1}


def start(weight, setting: Setting) -> Start:
    """R <- W; T times: A, B <- rank-r split of R; base <- quantize(W - sBA); R <- W - base."""
    from pissa_repro.spectrum import principal, split

    rest = weight
    for turn in range(alternations := setting.options.get("alternations", 1)):
        a, b = split(principal(rest, setting.rank), setting.scaling)
        if turn + 1 < alternations:
            rest = weight - setting.quantize(weight - setting.scaling * b @ a)
    return Start(A=a, B=b, offset="start")
