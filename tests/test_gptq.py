"""GPTQ of one matrix against rounding to nearest on the same grid, and the Hessians of a model's inputs."""

import sys
from importlib.util import find_spec

import pytest
import torch
from starting import decaying

from pissa_repro.linalg import gptq
from pissa_repro.model.calibration import hessians
from pissa_repro.model.load import load_base
from pissa_repro.model.tokens import load_tokenizer
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import read_lines

needs_library = pytest.mark.skipif(
    find_spec("neural_compressor") is None, reason='no neural_compressor: pip install "pissa-repro[gptq]"'
)
GROUP = 32
SHAPES = [(48, 64), (33, 100)]  # whole groups; a last group of four columns, and more columns than rows


def correlated(columns: int, samples: int = 512, seed: int = 1) -> torch.Tensor:
    """X^T X of inputs whose columns share a few strong directions, as activations do."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(samples, 4, generator=generator) @ torch.randn(4, columns, generator=generator)
    x = shared + 0.5 * torch.randn(samples, columns, generator=generator)
    return x.T @ x


def nearest(weight: torch.Tensor, bits: int = 4) -> torch.Tensor:
    """Round to nearest by definition: 2^bits integers from the least to the largest value of a group, and zero."""
    groups = []
    for group in weight.split(GROUP, dim=1):
        low, high = group.amin(1, keepdim=True).clamp(max=0), group.amax(1, keepdim=True).clamp(min=0)
        scale = (high - low) / (2**bits - 1)
        zero = (-low / scale).round()
        groups.append(((group / scale).round().add(zero).clamp(0, 2**bits - 1) - zero) * scale)
    return torch.cat(groups, dim=1)


def weighted_error(found: torch.Tensor, weight: torch.Tensor, hessian: torch.Tensor) -> float:
    """tr(E H E^T) = |X E^T|^2: how far the layer's outputs are off, in float64."""
    error = (found - weight).double()
    return torch.trace(error @ hessian.double() @ error.T).item()


@needs_library
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bits", [3, 4])
def test_outputs_are_closer_than_with_rounding_to_nearest(shape, bits):
    weight, hessian = decaying(*shape), correlated(shape[1])
    found = gptq.roundtrip(weight, hessian, GROUP, bits)
    assert weighted_error(found, weight, hessian) < 0.7 * weighted_error(nearest(weight, bits), weight, hessian)


@needs_library
@pytest.mark.parametrize("shape", SHAPES)
def test_inputs_without_correlation_leave_rounding_to_nearest(shape):
    """With H = I no column can make up for another: the grid is then seen to be the one of `nearest`."""
    weight = decaying(*shape)
    assert torch.allclose(gptq.roundtrip(weight, torch.eye(shape[1]), GROUP), nearest(weight), atol=1e-6)


@needs_library
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bits", [2, 4])
def test_a_group_of_a_row_has_at_most_two_to_the_bits_values(shape, bits):
    found = gptq.roundtrip(decaying(*shape), correlated(shape[1]), GROUP, bits)
    assert found.shape == shape and found.dtype == torch.float32
    counts = [len(group.unique()) for row in found for group in row.split(GROUP)]
    assert 2 < max(counts) <= 2**bits


@needs_library
def test_the_same_bits_on_every_call_and_arguments_left_alone():
    weight, hessian = decaying(48, 64), correlated(64)
    given = weight.clone(), hessian.clone()
    first = gptq.roundtrip(weight, hessian, GROUP)
    assert torch.equal(first, gptq.roundtrip(weight, hessian, GROUP))
    assert torch.equal(weight, given[0]) and torch.equal(hessian, given[1])


@needs_library
def test_the_hessians_scale_does_not_matter():
    weight, hessian = decaying(48, 64), correlated(64)
    found, other = gptq.roundtrip(weight, hessian, GROUP), gptq.roundtrip(weight, hessian / 1024, GROUP)
    assert torch.equal(found, other)  # a power of two: no rounding


@needs_library
def test_groups_of_one_sign_and_of_zeros():
    weight = decaying(48, 64)
    weight[:, :GROUP] = weight[:, :GROUP].abs()
    weight[3] = 0
    found = gptq.roundtrip(weight, torch.eye(64), GROUP)
    assert (found - weight).abs().max() <= weight.abs().max() / 15
    assert not found[3].any()


@needs_library
@pytest.mark.parametrize("hessian", [-torch.eye(64), torch.full((64, 64), torch.nan)])
def test_a_hessian_that_cannot_be_factored_is_refused(hessian):
    with pytest.raises(UserError, match="positive definite"):
        gptq.roundtrip(decaying(48, 64), hessian, GROUP)


def test_a_hessian_of_another_layer_is_refused():
    with pytest.raises(UserError, match=r"\(48, 48\).*\(48, 64\)"):
        gptq.roundtrip(decaying(48, 64), torch.eye(48))


def test_a_missing_library_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "neural_compressor.torch.algorithms.weight_only.gptq", None)
    monkeypatch.setitem(sys.modules, "neural_compressor", None)
    with pytest.raises(UserError, match=r"pissa-repro\[gptq\]"):
        gptq.roundtrip(decaying(48, 64), torch.eye(64))


NAMES = ["model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"]


def test_hessians_are_those_of_the_inputs(tiny_model, tiny_rows):
    """By hand from the hidden states: q_proj's input is the normed embedding."""
    rows = read_lines(tiny_rows)[:3]
    found = hessians(str(tiny_model), rows, NAMES)
    base, tokenizer = load_base(tiny_model).cpu(), load_tokenizer(tiny_model)
    wanted = 0
    for row in rows:
        ids = torch.tensor([tokenizer(row["prompt"] + row["response"])["input_ids"]])
        with torch.no_grad():
            x = base.model.layers[0].input_layernorm(base.model.embed_tokens(ids))[0].double()
        wanted = wanted + x.T @ x
    assert torch.allclose(found[NAMES[0]].cpu().double(), wanted, rtol=1e-4, atol=1e-4 * wanted.abs().max())
    for name in NAMES:
        assert found[name].dtype == torch.float32
        assert found[name].shape == (base.get_submodule(name).in_features,) * 2


def test_rows_are_cut_to_the_window(tiny_model, tiny_rows):
    rows = read_lines(tiny_rows)[:1]
    short = hessians(str(tiny_model), rows, NAMES[:1], window=1)[NAMES[0]]
    assert torch.linalg.matrix_rank(short, rtol=1e-4) == 1  # one token


def test_hessians_name_what_is_wrong(tiny_model, tiny_rows):
    with pytest.raises(UserError, match="model.layers.9.mlp.up_proj"):
        hessians(str(tiny_model), read_lines(tiny_rows), ["model.layers.9.mlp.up_proj"])
    with pytest.raises(UserError, match="no row reached"):
        hessians(str(tiny_model), [], NAMES)
