"""MiLoRA (arXiv 2406.09044): as PiSSA, with the r smallest singular triples of W."""

from pissa_repro.methods import Matrix, Setting, Start

DISPLAY, QUANTIZED_DISPLAY = "MiLoRA", "QMiLoRA"
RANDOM = False
TAKES = "the r smallest singular triples of W"
LOOK = 5


def start(weight: Matrix, setting: Setting) -> Start:
    """A, B <- split of the r smallest triples of W; the base is W - sBA."""
    from pissa_repro.linalg.spectrum import split

    triples = setting.spectrum.minor(setting.rank)
    return Start(*split(triples, setting.scaling), offset="start", excess=triples.excess)
