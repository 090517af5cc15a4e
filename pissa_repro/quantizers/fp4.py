"""fp4, a 4-bit float with two exponent bits and one mantissa bit, as bitsandbytes has it; blocks of 64."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from pissa_repro.linalg.quantize import FourBit


ORDER = 3
LEVELS = tuple(value / 12 for value in (-12, -8, -6, -4, -3, -2, -0.0625, 0, 0.0625, 2, 3, 4, 6, 8, 12))
VARIANTS = {"": {"blocksize": 64, "double": False}}


def _kind(options: dict[str, Any]) -> "FourBit":
    from pissa_repro.linalg.quantize import FourBit

    return FourBit("fp4", LEVELS, **options)


def roundtrip(weight: "torch.Tensor", options: dict[str, Any], spare: bool) -> "torch.Tensor":
    """The nearest level of each value of a block."""
    return _kind(options).roundtrip(weight, spare)


def packable(linear: "torch.nn.Module", options: dict[str, Any]) -> bool:
    """Rows must be whole blocks."""
    return _kind(options).packable(linear)


def packed(
    linear: "torch.nn.Linear", weight: "torch.Tensor", options: dict[str, Any], dtype: "torch.dtype"
) -> "torch.nn.Module":
    """A layer of bitsandbytes."""
    return _kind(options).packed(linear, weight, dtype)
