"""LoRA+: LoRA's start, and a larger learning rate for B."""

import pytest
import torch
from starting import decaying, spec_of, start_of

from pissa_repro import methods
from pissa_repro.runtime.errors import UserError

METHOD = methods.load("lora_plus")


def test_it_starts_as_lora():
    ours, lora = (start_of("layer", decaying(48, 96), spec_of(m, "none", 6, 6))[0] for m in ("lora_plus", "lora"))
    assert torch.equal(ours.A, lora.A) and torch.equal(ours.B, lora.B) and ours.offset is lora.offset is None


@pytest.mark.parametrize("ratio", [16.0, 4.0])
def test_the_rates_are_those_of_pefts_groups(ratio):
    from peft import LoraConfig, get_peft_model
    from peft.optimizers import create_loraplus_optimizer

    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 4))
    wrapped = get_peft_model(model, LoraConfig(r=2, target_modules=["0", "1"]))
    optimizer = create_loraplus_optimizer(wrapped, torch.optim.AdamW, lr=1e-3, loraplus_lr_ratio=ratio)
    rate_of = {id(p): group["lr"] / 1e-3 for group in optimizer.param_groups for p in group["params"]}
    assert METHOD.TRAINING_OPTIONS["ratio"] == 16
    rates = METHOD.TRAINING({"ratio": ratio}).rates()
    for name, parameter in wrapped.named_parameters():
        if parameter.requires_grad:
            part = name.split("lora_")[1][0]
            assert rate_of[id(parameter)] == pytest.approx(rates.get(part, 1)), name
    assert len(rate_of) == 4


def test_a_rate_of_b_below_that_of_a_is_refused():
    with pytest.raises(UserError, match=r"config.methods.mine \(lora_plus\): 'ratio'.* 1 or more"):
        methods.options("lora_plus", "none", {"ratio": 0.5}, "config.methods.mine")
