"""Rank-stabilised LoRA (arXiv 2312.03732): a cell is trained and scored with alpha / sqrt(r), as PEFT computes it."""

import pytest
from helpers import LLAMA, Run, trained_and_scored
from peft import LoraConfig, get_peft_model
from peft.utils import set_peft_model_state_dict
from safetensors.torch import load_file

from pissa_repro.model import factors
from pissa_repro.model.checks import logits, relative_difference
from pissa_repro.model.load import load_base

PROMPTS = [list(range(3, 40)), list(range(200, 220))]
STOCK = [("lora", True), ("pissa", "pissa"), ("olora", "olora")]  # ours, and PEFT's init_lora_weights


@pytest.mark.parametrize(("method", "how"), STOCK)
def test_a_cell_is_trained_and_scored_as_peft_computes_it(tiny_model, tiny_rows, tmp_path, method, how):
    """PEFT's own start of the untouched model, with the cell's trained factors: what is scored."""
    run = Run(tmp_path, tiny_model, tiny_rows, method, rslora=True, rank=4, alpha=6, steps=4, learning_rate=5e-3)
    _, score = trained_and_scored(run)
    assert score["checks"]["training_effect"] > 1e-3 and score["metrics"]["paper"]["n"] == 3
    config = LoraConfig(init_lora_weights=how, r=4, lora_alpha=6, use_rslora=True, target_modules=LLAMA)
    stock = get_peft_model(load_base(tiny_model), config)
    assert stock.base_model.model.model.layers[0].self_attn.q_proj.scaling == {"default": 6 / 2}
    set_peft_model_state_dict(stock, load_file(run.factors / factors.FACTORS))
    found, wanted = run.merged(PROMPTS).logits, logits(stock.eval(), PROMPTS)
    assert relative_difference(found, wanted) < 1e-5
