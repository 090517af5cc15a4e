"""LoftQ (arXiv 2310.08659): A and B are the r largest singular triples of the quantization error.

T alternations, counted as decompositions.

Deviations: of PEFT's `loftq`: here the scaling is taken into account, so that base + sBA is near W for every alpha.
"""

from pissa_repro.methods import Matrix, Setting, Start

DISPLAY = QUANTIZED_DISPLAY = "LoftQ"
RANDOM = False
LOOK = 3
OPTIONS = {"svd": "fast"}
QUANTIZED_OPTIONS = {"alternations": 1}


def refuse(quant: str) -> str | None:
    """Without quantization there is no error to approximate."""
    return "LoftQ approximates the error of quantization; without quantization it is LoRA" if quant == "none" else None


def start(weight: Matrix, setting: Setting) -> Start:
    """T times: base <- quantize(W - sBA), with BA = 0 at first; A, B <- rank-r split of W - base."""
    from pissa_repro.linalg.spectrum import split

    svd, part = setting.options["svd"], f"{setting.quant}-error-"
    triples = setting.spectrum.principal(setting.rank, svd, part, matrix=setting.remainder)
    factors, previous = split(triples, setting.scaling), None
    for _ in range(setting.options["alternations"] - 1):
        triples = setting.spectrum.near(setting.remainder(*factors), triples, svd)
        factors, previous = split(triples, setting.scaling), factors
    return Start(*factors, offset=previous, excess=triples.excess)
