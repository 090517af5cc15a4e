"""GPT-2 in training and scoring: Conv1D weights are (in, out), and its files have two namings."""

import pytest
import torch
from helpers import Run, scored_rows
from stage import says

from pissa_repro import quantizers
from pissa_repro.model import checkpoint, factors
from pissa_repro.model.adapter import attach
from pissa_repro.model.base import set_base
from pissa_repro.model.checks import logits, relative_difference
from pissa_repro.model.load import load_base
from pissa_repro.runtime.record import read_json

TARGETS = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
BASE = {"name": "tiny", "commit": None, "fingerprint": "x"}
PROMPTS = [[3, 40, 17, 9], [250, 8]]
NAMINGS = pytest.mark.parametrize("naming", ["saved", "hub"])


def principal(folder, rank: int = 4, alpha: float = 8.0) -> factors.Factors:
    """PiSSA's factors of every target, by hand: s * B A is the best rank-r part of W."""
    made = factors.Factors({}, {}, "start", rank, alpha, False)
    for name, weight in checkpoint.targets(folder, TARGETS):
        u, s, vh = torch.linalg.svd(weight, full_matrices=False)
        root = (s[:rank] / made.scaling).sqrt()
        made.A[name], made.B[name] = root[:, None] * vh[:rank], u[:, :rank] * root
    return made


def layer_of(model, name):
    """transformers' module, by the path in its source."""
    return model.get_submodule("transformer." + name.removeprefix("transformer."))


@NAMINGS
def test_base_and_factors_make_the_untouched_model(tiny_gpt2, naming, tmp_path):
    folder = tiny_gpt2[naming]
    wanted = logits(load_base(folder), PROMPTS)
    base, made = load_base(folder), principal(folder)
    set_base(base, made, "none", "float32", pack=True)
    assert relative_difference(logits(base, PROMPTS), wanted) > 0.1
    factors.save(tmp_path, made, BASE, "pissa", "none")
    wrapped = attach(base, tmp_path)
    assert relative_difference(logits(wrapped, PROMPTS), wanted) < 1e-5
    assert relative_difference(logits(wrapped.merge_and_unload(), PROMPTS), wanted) < 1e-5


@NAMINGS
@pytest.mark.parametrize("pack", [True, False])
@pytest.mark.parametrize("quant", ["nf4", "int8"])
def test_the_base_has_the_measured_bits_transposed(tiny_gpt2, naming, pack, quant):
    folder = tiny_gpt2[naming]
    model, made = load_base(folder), principal(folder)
    set_base(model, made, quant, "float32", pack=pack)
    for name, weight in checkpoint.targets(folder, TARGETS):
        layer, wanted = layer_of(model, name), quantizers.base_weight(weight, made.offset_product(name), quant)
        assert type(layer).__name__ == "Conv1D" and layer.weight.is_contiguous()
        assert torch.equal(layer.weight.data, wanted.t())
        assert not torch.equal(wanted, quantizers.base_weight(wanted.t().contiguous(), None, quant).t())


@NAMINGS
def test_the_adapter_says_how_its_modules_store_weights(tiny_gpt2, naming, tmp_path):
    made = principal(tiny_gpt2[naming])
    factors.save(tmp_path, made, BASE, "pissa", "none")
    wrapped = attach(load_base(tiny_gpt2[naming]), tmp_path)
    assert wrapped.peft_config["default"].fan_in_fan_out is True
    for name in made.A:
        lora = layer_of(wrapped.get_base_model(), name)
        assert lora.fan_in_fan_out and torch.equal(lora.lora_A["default"].weight, made.A[name])
    assert len([name for name, p in wrapped.named_parameters() if ".lora_A." in name]) == len(made.A) == 8


@NAMINGS
@pytest.mark.parametrize(("method", "quant"), [("pissa", "none"), ("pissa", "nf4"), ("lora", "none")])
def test_a_cell_is_trained_and_scored_as_trained(tiny_gpt2, naming, method, quant, tmp_path):
    run = Run(tmp_path, tiny_gpt2[naming], scored_rows(tmp_path, 12), method, quant, target_modules=TARGETS)
    run.init()
    record = run.train()
    if quant == "none":
        assert record["start_up"]["logits_difference"] < 1e-5
    config = read_json(run.factors / factors.CONFIG)
    assert config["fan_in_fan_out"] is True
    checks = run.evaluate()["checks"]
    assert checks["training_effect"] > 0 and checks["merge_error"] < 1e-4


def test_a_module_that_the_model_does_not_have(tiny_gpt2, tmp_path):
    made = factors.Factors(
        {"h.7.attn.c_attn": torch.zeros(1, 32)}, {"h.7.attn.c_attn": torch.zeros(96, 1)}, None, 1, 1, False
    )
    model = load_base(tiny_gpt2["hub"])
    says(
        lambda: set_base(model, made, "none", "float32", pack=True),
        "h.7.attn.c_attn",
        "GPT2LMHeadModel",
        "transformer.",
    )
    factors.save(tmp_path, made, BASE, "pissa", "none")
    says(lambda: attach(model, tmp_path), "h.7.attn.c_attn", "no such module")


def test_a_head_that_is_the_embedding_too_is_not_decomposed(tiny_gpt2):
    made = factors.Factors({"lm_head": torch.zeros(1, 32)}, {"lm_head": torch.zeros(300, 1)}, None, 1, 1, False)
    model = load_base(tiny_gpt2["saved"])
    says(lambda: set_base(model, made, "none", "float32", pack=True), "lm_head", "shares its weight", "embedding")
