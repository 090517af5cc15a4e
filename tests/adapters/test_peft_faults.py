"""What stock PEFT does wrong, by the number of the pitfall (docs/pitfalls.md): a mend in a newer PEFT is noticed."""

import warnings

import pytest
import torch
from peer import START, TARGETS, TOKENS, changed, loaded, logits, plain, train
from peft import AdaLoraConfig, LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraGAConfig
from peft.tuners.lora.loraga import preprocess_loraga
from safetensors.torch import load_file

from pissa_repro.model.checks import relative_difference

PISSA = {"init_lora_weights": "pissa", "r": 4, "lora_alpha": 8, "target_modules": TARGETS}
pytestmark = pytest.mark.filterwarnings("ignore")


def fault(reason: str, raises: type[Exception] = AssertionError):
    return pytest.mark.xfail(strict=True, raises=raises, reason=reason)


@fault("pitfall 1: PEFT decomposes anew in a reload, with other random numbers")
def test_a_fast_start_is_reloaded(tiny_model, tmp_path):
    trained = train(tiny_model, tmp_path, init_lora_weights="pissa_niter_1")
    raw = changed(trained.adapter, tmp_path / "raw", init_lora_weights="pissa_niter_1")
    assert relative_difference(loaded(tiny_model, raw), trained.logits) < 1e-2


@fault("pitfall 3: a model keeps what PiSSA took out of it (peft#2184)")
def test_a_base_is_given_twice(tiny_model):
    base = plain(tiny_model)
    get_peft_model(base, LoraConfig(**PISSA)).unload()
    assert relative_difference(logits(get_peft_model(base, LoraConfig(**PISSA))), logits(plain(tiny_model))) < 1e-3


@fault("pitfall 3: a disabled PiSSA adapter leaves the residual")
def test_a_disabled_adapter_is_not_there(tiny_model):
    model = get_peft_model(plain(tiny_model), LoraConfig(**PISSA))
    with model.disable_adapter():
        assert relative_difference(logits(model), logits(plain(tiny_model))) < 1e-3


def told(call) -> bool:
    """Whether a call warns that the base of other adapters changes."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        call()
    return any("changes the base weights" in str(one.message) for one in seen)


@fault("pitfall 4: PEFT does not warn of two adapters started by pissa_niter_N")
def test_two_fast_starts_on_one_model_are_told(tiny_model, tmp_path):
    trained = train(tiny_model, tmp_path, steps=0, init_lora_weights="pissa_niter_4")
    raw = changed(trained.adapter, tmp_path / "raw", init_lora_weights="pissa_niter_4")
    model = PeftModel.from_pretrained(plain(tiny_model), raw)
    assert told(lambda: model.load_adapter(raw, adapter_name="second"))


@fault("pitfall 4: PEFT's add_adapter does not warn")
def test_a_second_start_by_add_adapter_is_told(tiny_model):
    model = get_peft_model(plain(tiny_model), LoraConfig(**PISSA))
    assert told(lambda: model.add_adapter("second", LoraConfig(**PISSA)))


@fault("pitfall 4: two PiSSA adapters on one model break each other")
def test_a_second_start_leaves_the_first_alone(tiny_model):
    model = get_peft_model(plain(tiny_model), LoraConfig(**PISSA))
    before = logits(model)
    model.add_adapter("second", LoraConfig(**PISSA))
    assert relative_difference(logits(model), before) < 1e-3


@fault("pitfall 5: PEFT's conversion fails where biases were trained", ValueError)
def test_a_conversion_keeps_biases(tiny_gpt2, tmp_path):
    targets = {"target_modules": ["attn.c_attn"], "fan_in_fan_out": True}
    trained = train(tiny_gpt2["saved"], tmp_path, bias="lora_only", rate=1e-2, **START["pissa"], **targets)
    assert any(key.endswith(".bias") for key in load_file(trained.adapter / "adapter_model.safetensors"))
    trained.model.save_pretrained(tmp_path / "peft", path_initial_model_for_weight_conversion=str(trained.init))
    assert any(key.endswith(".bias") for key in load_file(tmp_path / "peft/adapter_model.safetensors"))


@fault("pitfall 5: PEFT refuses rsLoRA with patterns when it saves, after the training (peft#1929)", ValueError)
def test_a_training_that_cannot_be_converted_is_converted(tiny_model, tmp_path):
    trained = train(tiny_model, tmp_path, use_rslora=True, rank_pattern={"q_proj": 3}, **START["pissa"])
    trained.model.save_pretrained(tmp_path / "peft", path_initial_model_for_weight_conversion=str(trained.init))


def olora_on_gpt2(folder, target: str) -> None:
    """The logits with PEFT's OLoRA on a layer of GPT-2, which starts at the untouched model."""
    config = LoraConfig(init_lora_weights="olora", target_modules=[target], fan_in_fan_out=True, r=4)
    found = logits(get_peft_model(plain(folder), config))
    assert relative_difference(found, logits(plain(folder))) < 1e-3


@fault("pitfall 6: PEFT's OLoRA crashes on Conv1D", RuntimeError)
def test_olora_starts_on_gpt2(tiny_gpt2):
    olora_on_gpt2(tiny_gpt2["saved"], "attn.c_attn")


@fault("pitfall 6: PEFT's OLoRA is wrong, without a word, on a Conv1D that is square")
def test_olora_starts_on_a_square_layer_of_gpt2(tiny_gpt2):
    olora_on_gpt2(tiny_gpt2["saved"], "attn.c_proj")


def gradient_started(base) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, LoraConfig]:
    """PEFT's LoRA-GA of one weight: the gradient, B, A, and the config."""
    config = LoraConfig(init_lora_weights="lora_ga", lora_ga_config=LoraGAConfig(), r=4, lora_alpha=8,
                        target_modules=["layers.0.self_attn.q_proj"])  # fmt: skip
    model = plain(base)
    preprocess_loraga(model, config, lambda: model(input_ids=TOKENS, labels=TOKENS).loss.backward())
    gradient = model.model.layers[0].self_attn.q_proj._peft_loraga_grad.clone()
    torch.manual_seed(0)
    layer = get_peft_model(model, config).base_model.model.model.layers[0].self_attn.q_proj
    return gradient, layer.lora_B["default"].weight.data, layer.lora_A["default"].weight.data, config


@fault("pitfall 9: PEFT's LoRA-GA multiplies B by singular values and leaves A without the scale")
def test_lora_ga_is_its_reference(tiny_model):
    """The reference's default, ArB2r and stable: both factors are singular vectors times m^(1/4) / sqrt(gamma)."""
    gradient, b, a, config = gradient_started(tiny_model)
    assert config.lora_ga_config.direction == "ArB2r" and config.lora_ga_config.scale == "stable"
    norm = len(gradient) ** 0.25 / config.lora_ga_config.stable_gamma**0.5
    for found in (b.norm(dim=0), a.norm(dim=1)):
        assert torch.allclose(found, torch.full_like(found, norm), rtol=1e-3)


def test_lora_ga_deviates_as_the_page_says(tiny_model):
    """Pitfall 9: B's columns are as long as the gradient's singular values r + 1 to 2r, scaled; A's rows are 1 long."""
    gradient, b, a, config = gradient_started(tiny_model)
    values = torch.linalg.svdvals(gradient)[4:8] * len(gradient) ** 0.25 / config.lora_ga_config.stable_gamma**0.5
    assert torch.allclose(b.norm(dim=0), values, rtol=0.05)
    assert torch.allclose(a.norm(dim=1), torch.ones(4), rtol=1e-3)


@fault("pitfall 26: PEFT's AdaLoRA has no penalty where no task type is named")
def test_adaloras_penalty_is_in_the_loss(tiny_model):
    config = AdaLoraConfig(init_r=4, target_r=2, total_step=10, target_modules=TARGETS, orth_reg_weight=1.0)
    base = plain(tiny_model)
    without = base(input_ids=TOKENS, labels=TOKENS).loss.item()
    assert get_peft_model(base, config)(input_ids=TOKENS, labels=TOKENS).loss.item() > without + 0.1
