"""int8 by rows, scaled by their absolute maximum: the weight side of LLM.int8 (arXiv 2208.07339), by bitsandbytes."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


ORDER = 2
LOOKS = {"": 2}


def roundtrip(weight: "torch.Tensor", options: dict[str, Any], spare: bool) -> "torch.Tensor":
    """Through float16, as the library wants it."""
    from bitsandbytes.functional import int8_vectorwise_dequant, int8_vectorwise_quant

    codes, scales, _ = int8_vectorwise_quant(weight.half())
    return int8_vectorwise_dequant(codes, scales).float()
