"""The middle slice of PiSSA's Figure 8: as PiSSA, with the r singular triples around the median one."""

from pissa_repro.methods import Matrix, Setting, Start

DISPLAY, QUANTIZED_DISPLAY = "middle", "Q-middle"
RANDOM = False
TAKES = "the r middle singular triples of W"
LOOK = 4


def start(weight: Matrix, setting: Setting) -> Start:
    """A, B <- split of the r middle triples of W; the base is W - sBA."""
    from pissa_repro.linalg.spectrum import split

    triples = setting.spectrum.middle(setting.rank)
    return Start(*split(triples, setting.scaling), offset="start", excess=triples.excess)
