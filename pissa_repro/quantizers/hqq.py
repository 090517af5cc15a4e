"""hqq, half-quadratic quantization (Badri and Shaji, 2023) to 4 bits in blocks of 64, without data.

The solver is ours: linalg/integers.py. Block size 64 is the default of the library hqq.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


ORDER = 5
LOOKS = {"": 13, "-b128": 14}
VARIANTS = {"": {"blocksize": 64}, "-b128": {"blocksize": 128}}


def roundtrip(weight: "torch.Tensor", options: dict[str, Any], spare: bool) -> "torch.Tensor":
    """Each block by the zero point that its values choose."""
    from pissa_repro.linalg import integers

    return integers.in_blocks(weight, options["blocksize"], spare, integers.half_quadratic)
