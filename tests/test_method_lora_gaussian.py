"""LoRA with a Gaussian A: PEFT's deviation 1 / r, and a model that is W."""

import pytest
import torch
from starting import decaying, spec_of, start_of


@pytest.mark.parametrize("rank", [2, 6])
def test_a_is_gaussian_with_the_deviation_of_pefts(rank):
    from peft import LoraConfig, get_peft_model

    made, facts = start_of("layer", decaying(16, 20_000), spec_of("lora_gaussian", "none", rank, rank))
    config = LoraConfig(r=rank, init_lora_weights="gaussian", target_modules=["0"])
    layer = get_peft_model(torch.nn.Sequential(torch.nn.Linear(20_000, 16, bias=False)), config).base_model.model[0]
    assert made.A.std().item() == pytest.approx(1 / rank, rel=0.02)
    assert made.A.std().item() == pytest.approx(layer.lora_A["default"].weight.std().item(), rel=0.03)
    assert made.A.abs().max() > 3 / rank  # a uniform one of this deviation ends at 1.73 / r
    assert made.B.count_nonzero() == 0 and made.offset is None and facts["equality_error"] < 1e-7
