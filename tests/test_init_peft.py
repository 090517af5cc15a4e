"""The starts against PEFT's own initialisations."""

import inspect

import pytest
import torch
from helpers import LLAMA
from starting import decaying, made_of, relative, sides, spec_of, start_of

from pissa_repro import quantizers
from pissa_repro.model import factors
from pissa_repro.starts.make import generator

RANK = 6


class OneLayer(torch.nn.Module):
    """The smallest model that PEFT can wrap."""

    def __init__(self, weight):
        super().__init__()
        self.layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        self.layer.weight.data = weight.clone()

    def forward(self, x):
        return self.layer(x)


def peft_start(weight, how, alpha, rank=RANK, rslora=False):
    """A, B and the base that PEFT's init_lora_weights makes of a weight."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        init_lora_weights=how, r=rank, lora_alpha=alpha, use_rslora=rslora, target_modules=["layer"], lora_dropout=0.0
    )
    layer = get_peft_model(OneLayer(weight), config).base_model.model.layer
    return layer.lora_A["default"].weight.data, layer.lora_B["default"].weight.data, layer.base_layer.weight.data


def peft_loftq(weight, turns):
    """PEFT's loftq_init: dequantized base, A, B. Only its device, fixed to "cuda", is changed in its source."""
    from peft.utils import loftq_utils

    source = inspect.getsource(loftq_utils.loftq_init.__wrapped__)
    assert source.count('else "cuda"') == 1
    scope = dict(vars(loftq_utils))
    exec(source.replace('else "cuda"', 'else "cpu"').replace("@torch.no_grad()\n", ""), scope)
    with torch.no_grad():
        base, a, b = scope["loftq_init"](weight, num_bits=4, reduced_rank=RANK, num_iter=turns)
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(base.data, base.quant_state) if base.dtype == torch.uint8 else base, a, b


def our_start(weight, method, alpha, quant="none", rslora=False, **options):
    spec = spec_of(method, quant, RANK, alpha, rslora, **options)
    start, _ = start_of("layer", weight, spec)
    return start, sides(start, weight, factors.scaling(alpha, RANK, rslora), quant)


@pytest.mark.parametrize(("alpha", "rslora"), [(RANK, False), (2 * RANK, False), (RANK, True)])
@pytest.mark.parametrize("method", ["pissa", "olora"])
@pytest.mark.parametrize("shape", [(64, 64), (48, 96), (96, 48)])
def test_the_same_factors_and_base_as_peft(shape, method, alpha, rslora):
    weight = decaying(*shape)
    a, b, base = peft_start(weight, method, alpha, rslora=rslora)
    start, (our_base, product) = our_start(weight, method, alpha, rslora=rslora)
    assert relative(product, factors.scaling(alpha, RANK, rslora) * b @ a) < 1e-6
    assert relative(our_base, base) < 1e-6
    assert relative(start.A, a) < 1e-6 and relative(start.B, b) < 1e-6


def test_pissa_is_where_pefts_fast_pissa_goes_with_its_iterations():
    weight = decaying(96, 96)
    _, (_, product) = our_start(weight, "pissa", RANK)
    errors = []
    for niter in (1, 4, 16):
        torch.manual_seed(0)
        a, b, _ = peft_start(weight, f"pissa_niter_{niter}", RANK)
        errors.append(relative(b @ a, product))
    assert errors[0] > errors[1] > errors[2] and errors[2] < 0.05


@pytest.mark.parametrize("niter", [1, 4])
def test_the_option_niter_is_pefts_fast_pissa(niter, monkeypatch):
    """Given the same seed just before it draws. Random numbers that others draw are left alone."""
    from peft.tuners.lora import layer as peft_layer

    weight, plain = decaying(96, 64), torch.svd_lowrank

    def seeded(*args, **kwargs):
        torch.manual_seed(generator(0, "layer").initial_seed())
        return plain(*args, **kwargs)

    monkeypatch.setattr(peft_layer, "svd_lowrank", seeded)
    a, b, _ = peft_start(weight, f"pissa_niter_{niter}", 2 * RANK)
    torch.manual_seed(3)
    start, _ = our_start(weight, "pissa", 2 * RANK, svd=f"niter_{niter}")
    drawn = torch.rand(3)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(3))
    assert relative(start.A, a) < 1e-6 and relative(start.B, b) < 1e-6
    assert start.excess is None


@pytest.mark.parametrize("turns", [1, 5])
def test_the_same_factors_and_base_as_pefts_loftq_where_alpha_is_the_rank(turns):
    weight = decaying(64, 128)
    base, a, b = peft_loftq(weight, turns)
    assert loftq_misses(base, b @ a, weight) < 0.95
    _, (our_base, product) = our_start(weight, "loftq", RANK, "nf4", alternations=turns)
    assert relative(product, b @ a) < 1e-4
    assert (our_base - base).abs().gt(1e-5).float().mean() < 1e-3
    assert relative(our_base + product, base + b @ a) < 1e-3


def loftq_misses(base, product, weight):
    """How much of W is missing, against plain nf4."""
    plain = (weight - quantizers.roundtrip(weight, "nf4")).norm()
    return ((weight - base - product).norm() / plain).item()


def test_our_loftq_reduces_the_error_at_scaling_2():
    """Pitfall 8."""
    weight = decaying(64, 128)
    for alpha in (RANK, 2 * RANK):
        assert loftq_misses(*our_start(weight, "loftq", alpha, "nf4", alternations=5)[1], weight) < 0.95


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="pitfall 8: PEFT's loftq does not divide by alpha / r")
def test_pefts_loftq_reduces_the_error_at_scaling_2():
    weight = decaying(64, 128)
    base, a, b = peft_loftq(weight, 5)
    assert loftq_misses(base, 2 * b @ a, weight) < 0.95


@pytest.mark.xfail(
    strict=True, raises=AssertionError, reason="pitfall 6: PEFT's pissa cuts a rank above the smaller side silently"
)
def test_peft_keeps_the_rank_above_the_smaller_side():
    a, _, _ = peft_start(decaying(48, 96), "pissa", 49, rank=49)
    assert a.shape[0] == 49


def test_the_real_models_factors_are_pefts(tmp_path, shared_data):
    """All 35 matrices of stories260k, some of 64 x 172; B @ A against PEFT on the whole model."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = shared_data / "models" / "stories260k-hf"
    spec = {**spec_of("pissa", "none", 8, 16), "target_modules": LLAMA}
    made = made_of(folder, spec)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    wrapped = get_peft_model(model, LoraConfig(init_lora_weights="pissa", r=8, lora_alpha=16, target_modules=LLAMA))
    assert len(made.A) == 35
    for name in made.A:
        layer = wrapped.base_model.model.get_submodule(name)
        product = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
        assert relative(made.B[name] @ made.A[name], product.detach()) < 1e-5
