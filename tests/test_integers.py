"""int4 against its definition, and HQQ against the library hqq 0.2.8.post1 (golden values) and its own promises."""

import hypothesis.extra.numpy as arrays
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from starting import decaying

from pissa_repro import quantizers
from pissa_repro.linalg import integers

# W of `golden`, each row a block, by optimize_weights_proximal_v2(axis=1, device="cpu") of hqq 0.2.8.post1, one row a
# call: the least and the largest value that stand for W, and the step between two. The last two rows lose enough for
# the shrinkage to matter.
LIBRARY = [
    (-0.0200657, 0.0196143, 0.0026453),
    (-0.4380000, 0.2360000, 0.0449333),
    (-0.9847084, 0.9752917, 0.1306667),
    (-4.3200002, 3.8080006, 0.5418667),
]


def golden():
    """Four blocks of 64, by whole numbers alone, each with one outlier; of very different size."""
    k = torch.arange(256)
    weight = ((37 * k * k + 11 * k) % 251 - 125).float().div(250).view(4, 64)
    weight *= torch.tensor([0.04, 0.5, 2.0, 8.0])[:, None]
    weight[:, 7] *= 3
    return weight


def in_steps(made, step):
    """How far the values of a block are from whole numbers of steps above its least one."""
    places = (made - made.min()) / step
    return (places - places.round()).abs().max()


@pytest.mark.parametrize("row", range(4))
def test_hqq_is_the_library(row):
    least, largest, step = LIBRARY[row]
    made = integers.half_quadratic(golden())[row]
    assert made.min().item() == pytest.approx(least, abs=1e-4 * step)
    assert made.max().item() == pytest.approx(largest, abs=1e-4 * step)
    assert in_steps(made, step) < 1e-3 and len(made.unique()) <= 16


def lost(weight, quant):
    """The mean absolute error of each block."""
    size = quantizers.find(quant).options["blocksize"]
    return (weight - quantizers.roundtrip(weight, quant)).abs().view(-1, size).mean(1)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
def test_hqq_loses_less_than_the_nearest_in_every_kind_of_block(scale):
    """Of the zero points that it tries, the first is that of the least value, and it keeps the best."""
    weight = decaying(96, 256) * scale
    low, high = torch.aminmax(weight.view(-1, 64), dim=1, keepdim=True)
    step = (high - low) / 15
    first = ((weight.view(-1, 64) - low) / step).round() * step + low
    start = (weight.view(-1, 64) - first).abs().mean(1)
    found = lost(weight, "hqq")
    assert (found <= start * (1 + 1e-5)).all() and found.mean() < 0.97 * start.mean()
    assert found.mean() < lost(weight, "int4-b64").mean()


@pytest.mark.parametrize("quant", ["int4", "int4-b32", "int4-b64"])
def test_int4_is_the_nearest_of_sixteen_values_and_zero_is_one(quant):
    size, weight = quantizers.find(quant).options["blocksize"], decaying(48, 256)
    blocks, made = weight.view(-1, size), quantizers.roundtrip(weight, quant).view(-1, size)
    low, high = blocks.amin(1, keepdim=True).clamp(max=0), blocks.amax(1, keepdim=True).clamp(min=0)
    step = (high - low) / 15
    grid = (torch.arange(16) - (-low / step).round()) * step
    assert (grid == 0).any(1).all()
    near = (blocks[..., None] - grid[:, None]).abs().amin(-1)
    assert torch.allclose((blocks - made).abs(), near, atol=1e-6)


def test_int4_sym_keeps_the_largest_value_of_a_block_and_survives_itself():
    weight = decaying(48, 256)
    blocks, made = weight.view(-1, 128), quantizers.roundtrip(weight, "int4-sym").view(-1, 128)
    step = blocks.abs().amax(1, keepdim=True) / 7
    assert torch.allclose(made.abs().amax(1, keepdim=True), 7 * step)
    assert ((blocks - made).abs() <= step * (0.5 + 1e-5)).all()
    assert torch.allclose(quantizers.roundtrip(made.view(48, 256), "int4-sym"), made.view(48, 256), rtol=1e-6, atol=0)


@pytest.mark.parametrize(("small", "large"), [("int4-b32", "int4-b64"), ("int4-b64", "int4"), ("hqq", "hqq-b128")])
def test_more_values_in_a_block_lose_more(small, large):
    weight = torch.randn(64, 256, generator=torch.Generator().manual_seed(1))
    assert lost(weight, small).mean() < 0.97 * lost(weight, large).mean()


@pytest.mark.parametrize("change", [integers.nearest, integers.nearest_symmetric, integers.half_quadratic])
def test_a_block_is_changed_by_itself_and_the_last_one_may_be_shorter(change):
    weight = decaying(7, 37)  # eight blocks of 32 over the ends of rows, and three values
    made = integers.in_blocks(weight, 32, False, change).view(-1)
    flat = weight.reshape(-1)
    for first in range(0, 259, 32):
        assert torch.equal(made[first : first + 32], change(flat[None, first : first + 32])[0])


@given(
    arrays.arrays("float32", (3, 32), elements=st.floats(-(2.0**100), 2.0**100, width=32)),
    st.sampled_from([integers.nearest, integers.nearest_symmetric, integers.half_quadratic]),
)
@settings(max_examples=150)
def test_any_block_is_near_to_itself(values, change):
    """Constant blocks, denormal numbers, one huge value among zeros: finite, and off by a step at the most."""
    weight = torch.from_numpy(values)
    step = weight.abs().amax(1, keepdim=True) * 2 / 15
    assert ((change(weight) - weight).abs() <= step * 1.01 + 1e-37).all()


def test_a_block_of_one_value_is_kept_by_hqq():
    weight = torch.full((2, 64), 0.3)
    assert torch.equal(integers.half_quadratic(weight), weight)
