"""int4: round to nearest of 16 equally spaced values in blocks of 128, asymmetric, as GPTQ and AWQ compare with.

GPTQ in Table 9 has the same grid (linalg/gptq.py): the two differ by what GPTQ sees of the inputs. `-sym` has no zero
point, but 15 values on both sides of zero.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


ORDER = 4
LOOKS = {"": 9, "-b32": 10, "-b64": 11, "-sym": 12}
VARIANTS = {
    "": {"blocksize": 128},
    "-b32": {"blocksize": 32},
    "-b64": {"blocksize": 64},
    "-sym": {"blocksize": 128, "symmetric": True},
}


def roundtrip(weight: "torch.Tensor", options: dict[str, Any], spare: bool) -> "torch.Tensor":
    """Each block to its nearest values."""
    from pissa_repro.linalg import integers

    nearest = integers.nearest_symmetric if options.get("symmetric") else integers.nearest
    return integers.in_blocks(weight, options["blocksize"], spare, nearest)
