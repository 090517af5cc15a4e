"""The round trip through 4 bits in blocks, which several quantizers (quantizers/) share.

On a GPU bitsandbytes does it. On the CPU its 4-bit round trip is redone here bit for bit: faster
(benchmarks/init.py), and without its import, which every job would pay for.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

CHUNK = 2**18  # values handled at once: they stay in the cache


@dataclass(frozen=True)
class FourBit:
    """A 4-bit data type: its name in bitsandbytes, its levels in [-1, 1], values in a block (each block has one
    scale), and whether the scales are quantized to 8 bits themselves (double quantization)."""

    name: str
    levels: tuple[float, ...]
    blocksize: int
    double: bool

    def options(self) -> dict[str, Any]:
        """The same in bitsandbytes' words."""
        return {"quant_type": self.name, "blocksize": self.blocksize, "compress_statistics": self.double}

    def roundtrip(self, weight: torch.Tensor, spare: bool) -> torch.Tensor:
        """The nearest levels, float32 (out, in). Blocks run on over the ends of rows.

        The last block may be shorter: zeros do not change it. spare: `weight` may be overwritten.
        """
        flat, short = weight.reshape(-1), -weight.numel() % self.blocksize
        if short:  # pad copies, also where there is nothing to add
            flat = torch.nn.functional.pad(flat, (0, short))
        blocks = flat.view(-1, self.blocksize)  # bitsandbytes 0.50.2 on the CPU takes the wrong scales for longer rows
        rounded = _by_library(self, blocks) if weight.is_cuda else _by_table(self, blocks, spare)
        return rounded.view(-1)[: weight.numel()].view(weight.shape)

    def packable(self, linear: torch.nn.Module) -> bool:
        """Whether bitsandbytes computes rightly with the layer packed: rows are whole blocks (see roundtrip)."""
        return isinstance(linear, torch.nn.Linear) and linear.in_features % self.blocksize == 0

    def packed(self, linear: torch.nn.Linear, weight: torch.Tensor, dtype: torch.dtype) -> torch.nn.Module:
        """A bitsandbytes layer that stores the float32 weight (out, in) in 4 bits and computes in `dtype`.

        It dequantizes to the bits of `roundtrip`: same levels, blocks and (no) double quantization.
        """
        import bitsandbytes as bnb

        layer = bnb.nn.Linear4bit(
            linear.in_features, linear.out_features, bias=linear.bias is not None, compute_dtype=dtype, device="meta"
        )
        packed: Any = bnb.nn.Params4bit(weight.cpu(), requires_grad=False, **self.options())  # its `to` quantizes
        layer.weight = packed = packed.to(linear.weight.device)
        layer.quant_state = packed.quant_state  # where bitsandbytes looks for it when the weight is sharded
        layer.bias = linear.bias
        # With AVX512-BF16, bitsandbytes repacks a layer at its first use in eval mode and then computes
        # in bfloat16. A look at the logits would so change the base under the training.
        layer.support_avx512bf16_for_cpu = False
        return layer


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
    nearest = blocks if spare else torch.empty_like(blocks)
    for first in range(0, len(blocks), rows):
        here = slice(first, first + rows)
        value = (blocks[here] * inverse[here, None]).clamp_(-1, 1).view(-1)
        cell = (value * cells).add_(cells).to(torch.int32)
        above = torch.gt(value, boundary.index_select(0, cell), out=torch.empty_like(cell))  # mixed types are slow
        side = cell.mul_(2).add_(above)
        torch.mul(level.index_select(0, side).view(-1, kind.blocksize), stored[here, None], out=nearest[here])
    return nearest


@cache
def _table(levels: tuple[float, ...]) -> tuple[int, torch.Tensor, torch.Tensor]:
    """Cells in [0, 1], the boundary in each cell (infinite where there is none), the levels on its two sides."""
    level = torch.tensor(levels, dtype=torch.float32)
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
    """The scales after their own quantization to 8 bits, in blocks of 256 around their mean.

    The mean is taken as bitsandbytes takes it for packed layers. On a CPU its last bit depends on the number of threads
    where there are more than 32,768 scales, and a scale between two codes then takes the other one.
    """
    from bitsandbytes.functional import dequantize_blockwise, quantize_blockwise

    mean = scale.mean()
    return dequantize_blockwise(*quantize_blockwise(scale - mean, blocksize=256)) + mean
