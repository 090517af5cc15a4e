"""Quantizers: a float32 matrix to few bits and back.

On a GPU, and for int8, bitsandbytes does it. On the CPU its 4-bit round trip is redone here bit for
bit: faster (benchmarks/init.py), and without its import, which every job would pay for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import torch

# Levels of a block that is scaled to [-1, 1]: nf4 from QLoRA (arXiv 2305.14314, appendix E), fp4 with
# two exponent bits and one mantissa bit; the float32 values are those of bitsandbytes.
LEVELS = {
    "nf4": (
        -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
        -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
        0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
        0.7229568362236023, 1.0,
    ),
    "fp4": tuple(value / 12 for value in (-12, -8, -6, -4, -3, -2, -0.0625, 0, 0.0625, 2, 3, 4, 6, 8, 12)),
}  # fmt: skip
CHUNK = 2**18  # values handled at once: they stay in the cache


@dataclass(frozen=True)
class FourBit:
    """A 4-bit data type: its levels, values in a block (each block has one scale), and whether the
    scales are quantized to 8 bits themselves (double quantization)."""

    levels: str
    blocksize: int = 64
    double: bool = False

    def options(self) -> dict:
        """The same in bitsandbytes' words."""
        return {"quant_type": self.levels, "blocksize": self.blocksize, "compress_statistics": self.double}


# Block size 64 is the library's default and the paper's; initialisation and error measurement go
# without double quantization, as in the released code (paper_facts.md 3.3).
FOUR_BIT = {
    "nf4": FourBit("nf4"),
    "nf4-dq": FourBit("nf4", double=True),
    "nf4-b32": FourBit("nf4", 32),
    "nf4-b32-dq": FourBit("nf4", 32, double=True),
    "nf4-b128": FourBit("nf4", 128),
    "nf4-b128-dq": FourBit("nf4", 128, double=True),
    "fp4": FourBit("fp4"),
}


def _none(weight: torch.Tensor, spare: bool) -> torch.Tensor:
    return weight


def _four_bit(kind: FourBit, weight: torch.Tensor, spare: bool) -> torch.Tensor:
    """Blocks run on over the ends of rows. The last one may be shorter: zeros do not change it."""
    flat, short = weight.reshape(-1), -weight.numel() % kind.blocksize
    if short:  # pad copies, also where there is nothing to add
        flat = torch.nn.functional.pad(flat, (0, short))
    blocks = flat.view(-1, kind.blocksize)  # bitsandbytes 0.50.2 on the CPU takes the wrong scales for longer rows
    found = _by_library(kind, blocks) if weight.is_cuda else _by_table(kind, blocks, spare)
    return found.view(-1)[: weight.numel()].view(weight.shape)


def _by_library(kind: FourBit, blocks: torch.Tensor) -> torch.Tensor:
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    return dequantize_4bit(*quantize_4bit(blocks, **kind.options()))


def _by_table(kind: FourBit, blocks: torch.Tensor, spare: bool) -> torch.Tensor:
    """The level nearest to each value of the blocks (n, blocksize), by looking it up.

    [-1, 1] is cut into cells so narrow that at most one boundary between levels lies in each. Every
    step from value to cell is monotone, also in floating point, so that one comparison with the
    cell's boundary gives the very level that a search among all boundaries gives.
    """
    cells, boundary, level = _table(kind.levels)
    rows = CHUNK // kind.blocksize
    scale = torch.cat([part.abs().amax(1) for part in blocks.split(rows)])
    stored = _stored_scale(scale) if kind.double else scale
    inverse = 1.0 / scale.clamp(min=1e-38)
    found = blocks if spare else torch.empty_like(blocks)
    for first in range(0, len(blocks), rows):
        here = slice(first, first + rows)
        value = (blocks[here] * inverse[here, None]).clamp_(-1, 1).view(-1)
        cell = (value * cells).add_(cells).to(torch.int32)
        above = torch.gt(value, boundary.index_select(0, cell), out=torch.empty_like(cell))  # mixed types are slow
        side = cell.mul_(2).add_(above)
        torch.mul(level.index_select(0, side).view(-1, kind.blocksize), stored[here, None], out=found[here])
    return found


@cache
def _table(levels: str) -> tuple[int, torch.Tensor, torch.Tensor]:
    """Cells in [0, 1], the boundary in each cell (infinite where there is none), the levels on its two sides."""
    level = torch.tensor(LEVELS[levels], dtype=torch.float32)
    between = (level[1:] + level[:-1]) / 2
    cells = 1
    while len((place := (between * cells + cells).int()).unique()) < len(between):
        cells *= 2
    boundary = torch.full((2 * cells + 1,), torch.inf)
    boundary[place] = between
    below = torch.searchsorted(place, torch.arange(len(boundary), dtype=torch.int32))
    sides = torch.stack((level[below], level[(below + 1).clamp(max=len(level) - 1)]), dim=1)
    return cells, boundary, sides.view(-1)


def _stored_scale(scale: torch.Tensor) -> torch.Tensor:
    """The scales after their own quantization to 8 bits, in blocks of 256 around their mean."""
    from bitsandbytes.functional import dequantize_blockwise, quantize_blockwise

    mean = scale.mean()
    return dequantize_blockwise(*quantize_blockwise(scale - mean, blocksize=256)) + mean


def _int8(weight: torch.Tensor, spare: bool) -> torch.Tensor:
    """Row-wise absolute-maximum int8, the weight side of LLM.int8 (arXiv 2208.07339)."""
    from bitsandbytes.functional import int8_vectorwise_dequant, int8_vectorwise_quant

    codes, scales, _ = int8_vectorwise_quant(weight.half())
    return int8_vectorwise_dequant(codes, scales).float()


QUANTIZERS: dict[str, Callable[[torch.Tensor, bool], torch.Tensor]] = {
    "none": _none,
    **{name: partial(_four_bit, kind) for name, kind in FOUR_BIT.items()},
    "int8": _int8,
}


def roundtrip(weight: torch.Tensor, quant: str, spare: bool = False) -> torch.Tensor:
    """The float32 matrix (out, in) that `quant` makes of a float32 matrix (out, in).

    spare: the caller does not need `weight` any more, so that it may be overwritten.
    """
    return QUANTIZERS[quant](weight, spare)


def base_weight(weight: torch.Tensor, offset: torch.Tensor | None, quant: str) -> torch.Tensor:
    """The frozen base, float32 (out, in): quantize(W - offset).

    The one place where a base is made; training, scoring and error measurement all call it and so
    see the same bits. `offset` is s * offset_B @ offset_A, or None; it is overwritten.
    """
    weight = weight.float()
    if offset is None:
        return roundtrip(weight, quant)
    return roundtrip(torch.sub(weight, offset, out=offset), quant, spare=True)


def packable(linear: torch.nn.Module, quant: str) -> bool:
    """Whether bitsandbytes computes rightly with the layer packed: rows are whole blocks (see _four_bit)."""
    kind = FOUR_BIT.get(quant)
    return kind is not None and isinstance(linear, torch.nn.Linear) and linear.in_features % kind.blocksize == 0


def linear4bit(linear: torch.nn.Linear, weight: torch.Tensor, quant: str, compute_dtype: torch.dtype):
    """A bitsandbytes layer that stores the (already offset) float32 weight (out, in) in 4 bits.

    It dequantizes to the bits of `base_weight`: same levels, blocks and (no) double quantization.
    """
    import bitsandbytes as bnb

    layer = bnb.nn.Linear4bit(
        linear.in_features,
        linear.out_features,
        bias=linear.bias is not None,
        compute_dtype=compute_dtype,
        device="meta",
    )
    options = FOUR_BIT[quant].options()
    layer.weight = bnb.nn.Params4bit(weight.cpu(), requires_grad=False, **options).to(linear.weight.device)
    layer.bias = linear.bias
    # With AVX512-BF16, bitsandbytes repacks a layer at its first use in eval mode and then computes
    # in bfloat16. A look at the logits would so change the base under the training.
    layer.support_avx512bf16_for_cpu = False
    return layer
