"""Case 14: target modules are found in the model without its weights, before any is decomposed."""

import json

import pytest
import torch
from admitting import ATTENTION, admitted
from helpers import Run, scored_rows
from safetensors.torch import save_file
from stage import LLAMA, says
from tiny import ROWS, byte_tokenizer
from transformers import AutoModelForCausalLM, BertConfig, MambaConfig, MixtralConfig, Qwen3MoeConfig

from pissa_repro.model.skeleton import skeleton

SIZE = {
    "vocab_size": 300, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "bos_token_id": 0, "eos_token_id": 1, "dtype": "float32",
}  # fmt: skip
EXPERTS = {
    "qwen3_moe": Qwen3MoeConfig(**SIZE, moe_intermediate_size=32, head_dim=16, num_experts=4, num_experts_per_tok=2),
    "mixtral": MixtralConfig(**SIZE, num_local_experts=4),
}


@pytest.fixture(scope="module")
def experts(tmp_path_factory):
    """Small random models with experts, by their type."""
    folders = {}
    for name, config in EXPERTS.items():
        torch.manual_seed(0)
        folders[name] = tmp_path_factory.mktemp("experts") / name
        AutoModelForCausalLM.from_config(config).save_pretrained(folders[name])
        byte_tokenizer().save_pretrained(folders[name])
    return folders


@pytest.mark.parametrize(
    ("name", "target", "words"),
    [
        ("qwen3_moe", "gate_proj", ["mlp.experts.0.gate_proj", "no such module", "one stack", "8 such modules"]),
        ("mixtral", "w1", ["block_sparse_moe.experts.0.w1", "no such module", "one stack"]),
        ("qwen3_moe", "mlp.gate", ["mlp.gate", "Qwen3MoeTopKRouter", "only linear layers"]),
    ],
)
def test_experts_and_routers_are_told_with_what_can_be_trained(experts, tmp_path, name, target, words):
    """Case 14: 56 matrices of experts were decomposed before the training said that there is no such module."""
    targets = [*ATTENTION, target]
    says(
        lambda: admitted(experts[name], tmp_path, target_modules=targets),
        *("config.train.target_modules", "Choices: q_proj, k_proj, v_proj, o_proj", *words),
    )


@pytest.mark.parametrize(("name", "method"), [("qwen3_moe", "pissa"), ("mixtral", "pissa"), ("mixtral", "full")])
def test_attention_only_targets_of_experts_work_to_the_score(experts, tmp_path, name, method):
    """Case 14: admitted, with a warning that experts stay as they are; started, trained and scored.

    Full fine-tuning could not be scored: TRL trained the routers' own loss too, and saved a config that asks for it.
    """
    found = admitted(experts[name], tmp_path, target_modules=ATTENTION)
    assert found["modules"] == dict.fromkeys(ATTENTION, 2)
    assert "experts" in found["warnings"][0] and "gate_up_proj" in found["warnings"][0]
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": p, "response": r}) + "\n" for p, r in ROWS[:4]), encoding="utf-8")
    run = Run(tmp_path / "cell", experts[name], rows, method, target_modules=ATTENTION, steps=2)
    run.init()
    assert run.train()["steps"] == 2
    run.rows = scored_rows(run.folder)
    assert run.evaluate()["metrics"]["paper"]["n"] == 3


def test_the_output_layer_is_no_target(tiny_model, tmp_path):
    """Untied, it is a linear layer as any, but TRL ends in a ValueError where the loss is made of its weight."""
    says(
        lambda: admitted(tiny_model, tmp_path, target_modules=["q_proj", "lm_head"]),
        *("config.train.target_modules", "lm_head is the output layer", "Choices: q_proj"),
    )


def test_an_odd_shape_is_told(tiny_model, tmp_path):
    """Case 14: files of another size than config.json says."""
    import shutil

    from damage import edit

    copied = shutil.copytree(tiny_model, tmp_path / "copied")
    edit(copied / "config.json", intermediate_size=96)
    says(lambda: admitted(copied, tmp_path), "down_proj.weight is (64, 128)", "needs (64, 96) by this config.json")


SMALL = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
OTHERS = {
    "mamba": (MambaConfig(vocab_size=300, hidden_size=32, num_hidden_layers=1), "running state"),
    "bert": (BertConfig(**SMALL, intermediate_size=32), "is_decoder is false"),
    "gemma3": ({"model_type": "gemma3"}, "text_config, vision_config"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_architectures_are_told_before_any_weight_is_read(tmp_path, name):
    """Case 14: Mamba, models that see what follows, text and pictures. Encoder-decoders are in tests/seq2seq."""
    config, words = OTHERS[name]
    content = config if isinstance(config, dict) else config.to_dict()
    (tmp_path / "config.json").write_text(json.dumps(content), encoding="utf-8")
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    says(lambda: skeleton(tmp_path), str(tmp_path), name, words, "Choices: causal language models of text")


def test_the_model_has_no_weights_and_all_targets(tiny_model, tiny_gpt2, tmp_path):
    """Case 14: also GPT-2's layers, under both namings."""
    assert {parameter.device.type for parameter in skeleton(tiny_model).parameters()} == {"meta"}
    assert admitted(tiny_model, tmp_path)["modules"] == dict.fromkeys(LLAMA, 2)
    for folder in tiny_gpt2.values():
        found = admitted(folder, tmp_path, target_modules=["c_attn", "c_fc"])
        assert found["modules"] == {"c_attn": 2, "c_fc": 2}
