"""How a method and a quantization look, the same in every figure of every config.

Colour and marker say the method, line and hatch the quantization, so that a figure can be read in grey. Their numbers
stand in the plug-ins' files (LOOK, LOOKS); no method is known by its name here, and no place in a config counts.
"""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.colors import to_rgb

from pissa_repro import methods, quantizers
from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime.record import canonical

# Okabe and Ito, "Color Universal Design" (2008); its yellow is left out, it is too light for a line.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")  # one more than colours: 56 pairs before one comes again
OWN = 28  # pairs that the shipped files share out; the others are left to methods that say none
PAIRS = len(COLOURS) * len(MARKERS)
# Of the methods that a config makes of a file: the file's colour, a thin line, and a marker that no file has. From the
# ninth such method of one file in one sweep on, markers come again.
OTHER_MARKERS = ("<", ">", "*", "d", "h", (4, 1, 0), (4, 1, 45), (6, 1, 0))
LINES: tuple[Any, ...] = (  # dashes and gaps, in units of the line's width
    "-", (0, (3.5, 1.5)), (0, (1, 1.2)), (0, (5, 1.2, 1, 1.2)), (0, (5, 1.2, 1, 1.2, 1, 1.2)), (0, (8, 1.5)),
    (0, (1, 3)), (0, (3.5, 4)), (0, (8, 1.5, 2.5, 1.5)), (0, (5, 1.2, 5, 1.2, 1, 1.2)), (0, (8, 4)),
    (0, (1, 1.2, 1, 4)), (0, (8, 1.2, 1, 1.2, 1, 1.2, 1, 1.2)), (0, (2, 4)), (0, (14, 2)), (0, (5, 4, 1, 4)),
    (0, (1, 1.2, 1, 1.2, 1, 4)), (0, (3.5, 1.5, 3.5, 1.5, 3.5, 4)), (0, (8, 1.5, 1, 4)), (0, (2, 1, 2, 4)),
)  # fmt: skip
HATCHES = (
    "", "/////", ".....", "xxxxx", "\\\\\\\\\\", "-----", "|||||", "+++++", "ooooo", "///...", "***", "---...",
    "|||...", "OO", "\\\\\\...", "++xx", "ooo...", "||--",
    "oo//", "**--",
)  # fmt: skip
SHIPPED = 15  # lines and hatches from this number on are left to quantizers that say none
WIDTHS = (1.3, 0.8)  # of a method's line, and of a variant's
SIZES = (4.0, 6.5)  # of their markers; stars have little area


@dataclass(frozen=True)
class Look:
    """How one (method, quant) appears in every figure. shift: where its markers begin on a line, from 0 to 1."""

    label: str
    colour: str
    marker: Any
    line: Any
    hatch: str
    shift: float
    width: float = WIDTHS[0]
    size: float = SIZES[0]

    @property
    def tint(self) -> tuple[float, ...]:
        """The colour mixed with white, opaque, for areas; paler where the line is thinner."""
        share = 0.45 if self.width == WIDTHS[0] else 0.15
        return tuple(1 - share * (1 - part) for part in to_rgb(self.colour))


def look(label: str, method: str, quant: str, variant: int | None = None) -> Look:
    """The look of a method's file on a quantization; variant: the number of what a config makes of it."""
    number, kind = _method(method), _quant(quant)
    colour, line, hatch = COLOURS[number % len(COLOURS)], LINES[kind % len(LINES)], HATCHES[kind % len(HATCHES)]
    shift = number % len(MARKERS) / len(MARKERS)
    if variant is None:
        return Look(label, colour, MARKERS[number % len(MARKERS)], line, hatch, shift)
    between = (variant + 1) / (len(OTHER_MARKERS) + 1) / len(MARKERS)
    return Look(label, colour, OTHER_MARKERS[variant], line, hatch, shift + between, WIDTHS[1], SIZES[1])


def plain(method: str) -> Look:
    """The look of a method's file on a plain base."""
    return look(methods.display(method, "none"), method, "none")


def line_of(quant: str) -> Any:
    """The line style of a quantization."""
    return LINES[_quant(quant) % len(LINES)]


def looks(sweep: Sweep) -> dict[tuple[str, str], Look]:
    """The look of each swept (method, quant)."""
    variants = _variants(sweep)
    return {
        pair: look(label, sweep.definition(pair[0])["init"], pair[1], variants.get(pair[0]))
        for pair, label in sweep.labels.items()
    }


def _method(name: str) -> int:
    """The number of a method's look: its own, else one of the pairs of colour and marker that no other file has."""
    return _numbered({one: methods.load(one).LOOK for one in methods.names()}, range(OWN, PAIRS))[name]


def _quant(name: str) -> int:
    """The number of a quantization's look, in the same way."""
    quants = ((one, *quantizers.find(one)) for one in quantizers.names())
    given = {one: quantizer.LOOKS.get(one.removeprefix(file)) for one, file, quantizer, _ in quants}
    return _numbered(given, range(SHIPPED, len(LINES)))[name]


def _numbered(given: dict[str, int | None], left: range) -> dict[str, int]:
    """Numbers by name: the given ones; where none is given, one of those left that follows from the name.

    Of several names with the same number, the first by name keeps it, and the others have the next free. Where none is
    free, numbers come again.
    """
    numbers = {name: number for name, number in given.items() if number is not None}
    for name in sorted(given.keys() - numbers.keys()):
        numbers[name] = _free(_hash(name, len(left)), left, numbers.values())
    return numbers


def _free(wanted: int, left: Sequence[int], taken: Collection[int]) -> int:
    """The first that is not taken of those left, from place `wanted` on and round to it; that one, where all are."""
    in_order = [*left[wanted:], *left[:wanted]]
    return next((number for number in in_order if number not in taken), left[wanted])


def _variants(sweep: Sweep) -> dict[str, int]:
    """The number of each swept method that is not its file as it is: one that follows from its definition.

    Of several variants of a file with the same number, the first by name keeps it, and the others have the next free.
    """
    numbers: dict[str, int] = {}
    taken: dict[str, set[int]] = defaultdict(set)
    left = range(len(OTHER_MARKERS))
    for name in sorted({method for method, _ in sweep.labels}):
        definition = sweep.definition(name)
        init = definition["init"]
        if name == init and not definition["lora"]:
            continue
        numbers[name] = _free(_hash(_facts(sweep, name), len(left)), left, taken[init])
        taken[init].add(numbers[name])
    return numbers


def _facts(sweep: Sweep, name: str) -> str:
    """What a method of the config is, but for its name and that of its file."""
    definition = sweep.definition(name)
    own = (override for override in sweep.config["overrides"] if override["where"].get("method") == name)
    aimed = sorted(canonical([override["where"] | {"method": ""}, override["set"]]) for override in own)
    return canonical([definition["options"], definition["lora"], aimed])


def _hash(text: str, count: int) -> int:
    """A whole number below `count` that follows from the text, the same in every process."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) % count
