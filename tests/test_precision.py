"""The dtypes of a cell are those of its spec, or it stops: what a loader chooses, what a trainer casts."""

import json
import shutil

import pytest
import torch
from helpers import Run
from stage import says
from transformers import AutoModelForCausalLM, Ernie4_5_MoeConfig, Ernie4_5_MoeForCausalLM

from pissa_repro.model.load import load_base
from pissa_repro.training import trainer


def test_a_checkpoint_in_bfloat16_is_loaded_in_float32(tiny_model, tmp_path):
    """Pitfall 15. transformers alone takes the dtype that config.json names."""
    folder = tmp_path / "rounded"
    AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16).save_pretrained(folder)
    shutil.copy(tiny_model / "tokenizer.json", folder)
    assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["dtype"] == "bfloat16"
    assert AutoModelForCausalLM.from_pretrained(folder).dtype == torch.bfloat16
    assert {p.dtype for p in load_base(folder).parameters()} == {torch.float32}


def test_a_part_that_transformers_keeps_in_another_dtype_is_loaded_in_float32_too(tmp_path):
    """Pitfall 15. Ernie's routers have a dtype of their own; its experts are joined from several tensors."""
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "moe_intermediate_size": 16}
    heads = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
    config = Ernie4_5_MoeConfig(**sizes, **heads, moe_num_experts=4, moe_k=2, pad_token_id=0)
    Ernie4_5_MoeForCausalLM(config).bfloat16().save_pretrained(tmp_path)
    assert {p.dtype for p in load_base(tmp_path).parameters()} == {torch.float32}


def test_factors_that_trl_casts_stop_the_training(tiny_model, tiny_rows, tmp_path, monkeypatch):
    """Pitfall 13. SFTTrainer turns them to bfloat16 where a model says that it is quantized."""
    run = Run(tmp_path, tiny_model, tiny_rows, "pissa", "nf4", options={"alternations": 1})
    run.init()
    honest = trainer.build

    def marked(prepared, *args):
        prepared.model.is_loaded_in_4bit = True
        return honest(prepared, *args)

    monkeypatch.setattr(trainer, "build", marked)
    says(run.train, "dtypes", "bfloat16", "float32 factors on a base of float32")
    assert not run.trained.exists() and not run.record.exists()


@pytest.mark.parametrize(("asked", "found"), [("float32", torch.bfloat16), ("bfloat16", torch.float32)])
def test_a_base_of_another_dtype_stops_the_training(tiny_model, tiny_rows, tmp_path, monkeypatch, asked, found):
    """Pitfalls 12, 14: one projection is enough, whatever its name is."""
    run = Run(tmp_path, tiny_model, tiny_rows, "pissa", dtype=asked)
    run.init()
    honest = trainer.build

    def cast(prepared, *args):
        layer = prepared.model.get_base_model().model.layers[1].mlp.gate_proj.base_layer
        layer.weight.data = layer.weight.data.to(found)
        return honest(prepared, *args)

    monkeypatch.setattr(trainer, "build", cast)
    says(run.train, "dtypes", f"float32 factors on a base of {asked}")
    assert not run.trained.exists() and not run.record.exists()


def test_full_fine_tuning_in_bfloat16_keeps_no_second_copy_of_the_weights(tiny_model, tiny_rows, tmp_path, monkeypatch):
    """Autocast would hold one, on each card, until a pass ends. No bit of a step depends on it."""
    honest, kwargs, seen = trainer.build, trainer.AutocastKwargs, []

    def watched(prepared, *args, **given):
        prepared.model.model.norm.register_forward_hook(
            lambda *_: seen.append((torch.is_autocast_enabled("cpu"), torch.is_autocast_cache_enabled()))
        )
        return honest(prepared, *args, **given)

    runs = [Run(tmp_path / name, tiny_model, tiny_rows, "full", dtype="bfloat16", steps=2) for name in ("as", "cached")]
    monkeypatch.setattr(trainer, "build", watched)
    runs[0].train("--micro-batch-size", "2", "--gradient-checkpointing", "yes")
    assert set(seen) == {(True, False)}
    seen.clear()
    monkeypatch.setattr(trainer, "AutocastKwargs", lambda cache_enabled: kwargs(cache_enabled=not cache_enabled))
    runs[1].train("--micro-batch-size", "2", "--gradient-checkpointing", "yes")
    assert set(seen) == {(True, True)}
    first, second = (run.steps.read_text(encoding="utf-8") for run in runs)
    assert first == second and len(runs[0].history()) == 2
