"""Quantizers: a float32 matrix to few bits and back, by bitsandbytes.

bitsandbytes takes 1.7 s to import, so it is imported by the first matrix that needs it.
"""

from collections.abc import Callable

import torch

# Block size 64 is the library's default and the paper's; initialisation and error measurement go
# without double quantization, as in the released code (paper_facts.md 3.3).
NF4 = {"blocksize": 64, "compress_statistics": False, "quant_type": "nf4"}


def _none(weight: torch.Tensor) -> torch.Tensor:
    return weight


def _nf4(weight: torch.Tensor) -> torch.Tensor:
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    # Blocks run on over the ends of rows. bitsandbytes' CPU kernel takes the wrong scales there
    # (0.50.2; error 0.23 instead of 0.09 on 64 x 96), so it gets the same blocks as rows of their own.
    flat = torch.nn.functional.pad(weight.reshape(-1), (0, -weight.numel() % NF4["blocksize"]))
    found = dequantize_4bit(*quantize_4bit(flat.view(-1, NF4["blocksize"]), **NF4))
    return found.view(-1)[: weight.numel()].view(weight.shape)


def _int8(weight: torch.Tensor) -> torch.Tensor:
    """Row-wise absolute-maximum int8, the weight side of LLM.int8 (arXiv 2208.07339)."""
    from bitsandbytes.functional import int8_vectorwise_dequant, int8_vectorwise_quant

    codes, scales, _ = int8_vectorwise_quant(weight.half())
    return int8_vectorwise_dequant(codes, scales).float()


QUANTIZERS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {"none": _none, "nf4": _nf4, "int8": _int8}


def roundtrip(weight: torch.Tensor, quant: str) -> torch.Tensor:
    """The float32 matrix (out, in) that `quant` makes of a float32 matrix (out, in)."""
    return QUANTIZERS[quant](weight)


def base_weight(weight: torch.Tensor, offset: torch.Tensor | None, quant: str) -> torch.Tensor:
    """The frozen base, float32 (out, in): quantize(W - offset).

    The one place where a base is made; training, scoring and error measurement all call it and so
    see the same bits. `offset` is s * offset_B @ offset_A, or None.
    """
    weight = weight.float()
    return roundtrip(weight if offset is None else weight - offset, quant)


def packable(linear: torch.nn.Linear) -> bool:
    """Whether bitsandbytes computes rightly with the layer packed: rows are whole blocks (see _nf4)."""
    return linear.in_features % NF4["blocksize"] == 0


def linear4bit(linear: torch.nn.Linear, weight: torch.Tensor, compute_dtype: torch.dtype) -> torch.nn.Module:
    """A bitsandbytes layer that stores the (already offset) float32 weight (out, in) in nf4.

    It is not told to be double-quantized, so that it dequantizes to the bits of `base_weight`.
    """
    import bitsandbytes as bnb

    layer = bnb.nn.Linear4bit(
        linear.in_features,
        linear.out_features,
        bias=linear.bias is not None,
        compute_dtype=compute_dtype,
        device="meta",
    )
    layer.weight = bnb.nn.Params4bit(weight.cpu(), requires_grad=False, **NF4).to(linear.weight.device)
    layer.bias = linear.bias
    # With AVX512-BF16, bitsandbytes repacks a layer at its first use in eval mode and then computes
    # in bfloat16. A look at the logits would so change the base under the training.
    layer.support_avx512bf16_for_cpu = False
    return layer
