"""Round trips through whole numbers in blocks: to the nearest, and by half-quadratic quantization (HQQ).

A block of values w is kept as codes q = 0 ... 15, one step and one zero point: step * (q - zero). Step and zero point
are float32 here, as bitsandbytes' scales are; what rounding them to 16 bits would add is in no number.
"""

from collections.abc import Callable

import torch

TOP = 15  # the largest code of 4 bits
CHUNK = 2**17  # values handled at once: what they need stays in the cache
CHUNK_GPU = 2**24  # there a kernel's start is what costs
SERIAL = 2**15  # values that torch handles on one thread: its powers depend on where the threads cut
NORM, BETA, GROWTH, STEPS = 0.7, 10.0, 1.01, 20  # of HQQ: hqq 0.2.8, optimize_weights_proximal


def in_blocks(
    weight: torch.Tensor, size: int, spare: bool, change: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """A float32 matrix (out, in), changed in blocks of `size` values, which run on over the ends of rows.

    change: from blocks (n, size) to blocks of that shape, each by itself; it leaves its argument as it is. The last
    block may be shorter. spare: `weight` may be overwritten.
    """
    flat = weight.reshape(-1)
    made = flat if spare else torch.empty_like(flat)
    whole = len(flat) - len(flat) % size
    most = max(1, (CHUNK_GPU if weight.is_cuda else CHUNK) // size) * size
    for first in range(0, whole, most):
        here = slice(first, min(first + most, whole))
        made[here] = change(flat[here].view(-1, size)).view(-1)
    if whole < len(flat):
        made[whole:] = change(flat[whole:][None])[0]
    return made.view(weight.shape)


def nearest(blocks: torch.Tensor) -> torch.Tensor:
    """The nearest of 16 equally spaced values from the least to the largest value of a block (n, size), and zero.

    Asymmetric, with a whole zero point, so that zero stays zero: the grid of GPTQ (arXiv 2210.17323), of which this
    is the round-to-nearest baseline, and of AWQ.
    """
    low, high = torch.aminmax(blocks, dim=1, keepdim=True)
    step = _step(low.clamp_(max=0), high.clamp_(min=0))
    zero = (low / step).neg_().round_()
    return (blocks / step).round_().add_(zero).clamp_(0, TOP).sub_(zero).mul_(step)


def nearest_symmetric(blocks: torch.Tensor) -> torch.Tensor:
    """The nearest of -7 ... 7 times a seventh of the largest absolute value of a block (n, size): 15 of 16 codes."""
    step = _usable(blocks.abs().amax(1, keepdim=True) / (TOP // 2))
    return (blocks / step).round_().mul_(step)


def half_quadratic(blocks: torch.Tensor) -> torch.Tensor:
    """HQQ (Badri and Shaji, "Half-Quadratic Quantization of Large Machine Learning Models", 2023) of blocks (n, size).

    The step is that of the least and the largest value. The zero point, no whole number, is moved so as to minimise
    the p-norm of what is lost, p = 0.7, in turns: e = shrink(lost), then zero = mean(q - (w - e) / step). A block stops
    where its mean absolute error no longer falls, and keeps its best zero point. The library looks at the mean of the
    whole matrix instead, whose rounding depends on the number of threads, and takes the zero point after the best.
    """
    low, high = torch.aminmax(blocks, dim=1, keepdim=True)
    step = whole_step = _step(low, high)
    scaled = whole = blocks / step
    kept = zero = low.div(step).neg_()
    best, going = torch.full_like(zero, torch.inf), torch.arange(len(blocks), device=blocks.device)
    for count in range(STEPS):
        wanted = _codes(scaled, zero).sub_(scaled)  # for each value, the zero point that loses nothing of it
        lost = zero - wanted  # in steps
        error = lost.abs().sum(1, keepdim=True)
        better = (error < best).view(-1).nonzero().view(-1)
        going = going[better]
        if not len(going):
            break
        kept = kept.index_copy(0, going, zero[better])
        zero = (wanted.mean(1, keepdim=True) + _shrunk(lost, step, BETA * GROWTH**count))[better]
        scaled, step, best = scaled[better], step[better], error[better]
    return _codes(whole, kept).sub_(kept).mul_(whole_step)


def _codes(scaled: torch.Tensor, zero: torch.Tensor) -> torch.Tensor:
    return (scaled + zero).round_().clamp_(0, TOP)


def _shrunk(lost: torch.Tensor, step: torch.Tensor, beta: float) -> torch.Tensor | float:
    """The mean over each block of sign(x) max(|x| - |x|^(p - 1) / beta, 0), x = step * lost; in steps, (n, 1) or 0.

    It is zero up to a bound, 0.17 at first, and what weights lose is seldom so much.
    """
    bound = beta ** (1 / (NORM - 2))
    if (lost.abs().amax(1, keepdim=True) * step).amax() <= bound:
        return 0.0
    lost = lost * step
    size = lost.abs()
    above = size > bound
    some, made = size[above], torch.zeros_like(lost)
    powers = torch.cat([part.pow(NORM - 1) for part in some.split(SERIAL)])
    made[above] = (some - powers / beta).clamp_(min=0) * lost[above].sign()
    return made.mean(1, keepdim=True) / step


def _step(low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """The step between 16 values from low to high, (n, 1)."""
    return _usable(high / TOP - low / TOP)


def _usable(step: torch.Tensor) -> torch.Tensor:
    """The step, 1 where a block has one value only, or where it is too small to divide by."""
    return torch.where(step < torch.finfo(step.dtype).tiny, 1, step)
