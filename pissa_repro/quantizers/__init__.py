"""The quantizers. One is one file of this folder, held to `Quantizer`; the name of a quant is the file's and a variant.

The frozen base of every cell is made here. The mathematics that several quantizers share is in linalg/quantize.py.
The workflow imports these files for every dry run, so they import torch only inside their functions.
"""

from abc import abstractmethod
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from pissa_repro.runtime.errors import unknown
from pissa_repro.runtime.plugins import Room

if TYPE_CHECKING:
    import torch


class Quantizer(Protocol):
    """What a quantizer's file declares."""

    ORDER: int = 100
    """Its place in lists; equal ones are in the order of their names."""

    VARIANTS: Mapping[str, dict[str, Any]] = MappingProxyType({"": {}})
    """What follows the file's name in a quant, and the options that it stands for.

    `{"": {}, "-b32": {"blocksize": 32}}` in nf4.py makes nf4 and nf4-b32. A variant that quantizes in blocks, each with
    one scale, says `blocksize` (values), and has `-b` and that number in its name unless it is the file's own size;
    config.studies.blocks takes these.
    """

    LOOKS: Mapping[str, int] = MappingProxyType({})
    """The number of the line and hatch of each variant in figures (report/figures/looks.py), from 0, all different.
    A variant that is not in it has one from 15 on, a free one that follows from its name."""

    VERSION: int = 1
    """Raised when `roundtrip` or the options of a variant change, so that all that stands on such a base is made again:
    starts, trainings, scores and studies."""

    LEVELS: tuple[float, ...] = ()
    """The values that a block scaled to [-1, 1] is rounded to, in their order, where there are such."""

    @abstractmethod
    def roundtrip(self, weight: "torch.Tensor", options: dict[str, Any], spare: bool) -> "torch.Tensor":
        """The float32 matrix (out, in) that stands for a float32 matrix (out, in), on the same device.

        The same input gives the same bits, on any number of threads. spare: `weight` may be overwritten; else it stays
        as it is.
        """

    def packable(self, linear: "torch.nn.Module", options: dict[str, Any]) -> bool:
        """Whether the layer can be trained on with its weight packed in few bits. Not, if a file says nothing."""
        return False

    def packed(
        self, linear: "torch.nn.Linear", weight: "torch.Tensor", options: dict[str, Any], dtype: "torch.dtype"
    ) -> "torch.nn.Module":
        """A layer in the place of a packable one that stores the float32 weight (out, in) in few bits, not trainable.

        It dequantizes to the bits of `roundtrip` and computes in `dtype`. Needed only where something is packable.
        """
        raise TypeError("a quantizer that packs nothing has no packed layer")

    def bitsandbytes(self, options: dict[str, Any]) -> dict[str, Any]:
        """The arguments of transformers' BitsAndBytesConfig that quantize a model so; none where it cannot."""
        return {}


PLUGINS = Room("pissa_repro.quantizers", "quantizer", Quantizer)


class Quant(NamedTuple):
    """What the name of a quant stands for."""

    file: str
    quantizer: Quantizer
    options: dict[str, Any]


@cache
def _quants() -> dict[str, Quant]:
    """All quants by name: the plain ones in their order, then the variants."""
    files = sorted(PLUGINS.names(), key=lambda name: (PLUGINS.load(name).ORDER, name))
    quants = {
        file + variant: Quant(file, PLUGINS.load(file), options)
        for file in files
        for variant, options in PLUGINS.load(file).VARIANTS.items()
    }
    return dict(sorted(quants.items(), key=lambda item: item[0] not in files))


def names() -> tuple[str, ...]:
    """All quants: every variant of every file."""
    return tuple(_quants())


def find(quant: str, place: str = "quant") -> Quant:
    """The quantizer and the options of a quant. Raises UserError for a name that there is not, with the nearest."""
    if quant not in _quants():
        raise unknown("quant", quant, names(), place)
    return _quants()[quant]


def version(quant: str) -> int:
    """The VERSION of a quant's file (`Room.version`)."""
    return PLUGINS.version(find(quant).file)


def in_blocks() -> tuple[str, ...]:
    """The quants that quantize in blocks of a size that they name."""
    return tuple(name for name, quant in _quants().items() if "blocksize" in quant.options)


def roundtrip(weight: "torch.Tensor", quant: str, spare: bool = False) -> "torch.Tensor":
    """The float32 matrix (out, in) that `quant` makes of a float32 matrix (out, in).

    spare: the caller does not need `weight` any more, so that it may be overwritten.
    """
    _, quantizer, options = find(quant)
    return quantizer.roundtrip(weight, options, spare)


def base_weight(weight: "torch.Tensor", offset: "torch.Tensor | None", quant: str) -> "torch.Tensor":
    """The frozen base, float32 (out, in): quantize(W - offset).

    The one place where a base is made; training, scoring and error measurement all call it and so
    see the same bits. `offset` is s * offset_B @ offset_A, or None; it is overwritten.
    """
    import torch

    weight = weight.float()
    if offset is None:
        return roundtrip(weight, quant)
    return roundtrip(torch.sub(weight, offset, out=offset), quant, spare=True)


def packable(linear: "torch.nn.Module", quant: str) -> bool:
    """Whether the layer can be trained on with its weight packed."""
    _, quantizer, options = find(quant)
    return quantizer.packable(linear, options)


def packed(linear: "torch.nn.Linear", weight: "torch.Tensor", quant: str, dtype: "torch.dtype") -> "torch.nn.Module":
    """A layer that stores the (already offset) float32 weight (out, in) packed, and dequantizes to `base_weight`."""
    _, quantizer, options = find(quant)
    return quantizer.packed(linear, weight, options, dtype)
