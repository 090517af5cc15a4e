"""pissa convert against stock PEFT: what was trained on the residual is a plain LoRA on the untouched base."""

import json
import math
import shutil

import pytest
import torch
from commands import pissa
from peer import START, changed, convert, loaded, logits, of_rank, plain, train
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

RULES = {
    "pissa": START["pissa"],
    "olora": START["olora"],
    "fast": {"init_lora_weights": "pissa_niter_4"},
    "rslora": START["pissa"] | {"use_rslora": True, "r": 6, "lora_alpha": 5},
    "patterns": START["pissa"] | {
        "rank_pattern": {"q_proj": 2, r".*\.0\.mlp\.up_proj": 3}, "alpha_pattern": {"v_proj": 3}},
    "rslora and patterns": START["pissa"] | {
        "use_rslora": True, "rank_pattern": {"q_proj": 3}, "alpha_pattern": {"self_attn.[qv]_proj": 7}},
    "regex": START["pissa"] | {"target_modules": r".*\.1\..*(q|down)_proj"},
    "modules_to_save": START["pissa"] | {"modules_to_save": ["lm_head"]},
    "embeddings and lm_head": START["pissa"] | {"target_modules": ["embed_tokens", "q_proj", "lm_head"]},
    "tokens": START["pissa"] | {"trainable_token_indices": {"embed_tokens": [5, 7, 20]}},
    "lora": {"init_lora_weights": True},
}  # fmt: skip


def config_of(folder) -> dict:
    return json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.filterwarnings("ignore")
def test_the_untouched_base_with_the_converted_adapter_is_the_trained_model(tiny_model, tmp_path, rule, capsys):
    trained = train(tiny_model, tmp_path, **RULES[rule])
    before = logits(plain(tiny_model))
    assert (trained.logits - before).abs().max() > 1e-3, "training moves the model"
    convert(trained, tmp_path / "out")
    assert (loaded(tiny_model, tmp_path / "out") - trained.logits).abs().max() < 1e-5
    config = config_of(tmp_path / "out")
    assert config["init_lora_weights"] is True and config["base_model_name_or_path"] is None
    assert config["r"] == config_of(trained.adapter)["r"] * (1 if rule == "lora" else 2)
    assert "Not right" not in capsys.readouterr().out, "the model is at hand, and its head is its own"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("bias", ["lora_only", "all"])
def test_trained_biases_are_kept(tmp_path, bias):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=300, attention_bias=True, **sizes)).save_pretrained(tmp_path / "model")
    trained = train(tmp_path / "model", tmp_path, bias=bias, rate=1e-2, **START["pissa"])
    convert(trained, tmp_path / "out")
    assert any(key.endswith(".bias") for key in load_file(tmp_path / "out/adapter_model.safetensors"))
    assert (loaded(tmp_path / "model", tmp_path / "out") - trained.logits).abs().max() < 1e-5


def test_it_is_what_peft_itself_converts(pissa_trained, tmp_path):
    shutil.copytree(pissa_trained.init, tmp_path / "init")  # PEFT writes into it
    pissa_trained.model.save_pretrained(
        tmp_path / "peft", path_initial_model_for_weight_conversion=str(tmp_path / "init")
    )
    convert(pissa_trained, tmp_path / "ours")
    ours, theirs = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("ours", "peft"))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    ours, theirs = (config_of(tmp_path / name) for name in ("ours", "peft"))
    differing = {key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)}
    assert differing <= {"base_model_name_or_path", "target_modules"}


@pytest.mark.filterwarnings("ignore")
def test_an_adapter_that_has_a_name_lies_in_a_subfolder(pissa_trained, tiny_model, tmp_path):
    """PEFT writes a named adapter to DIR/name; a released residual has its start in DIR/pissa_init."""
    (tmp_path / "outer").mkdir()
    (tmp_path / "outer/mine").symlink_to(pissa_trained.adapter)
    pissa("convert", tmp_path / "outer", "--init", pissa_trained.init, "--out", tmp_path / "out")
    assert (loaded(tiny_model, tmp_path / "out") - pissa_trained.logits).abs().max() < 1e-5


def test_back_again_the_bits_are_those_of_the_trained_adapter(pissa_trained, tmp_path):
    convert(pissa_trained, tmp_path / "lora")
    pissa("convert", tmp_path / "lora", "--init", pissa_trained.init, "--out", tmp_path / "back", "--to", "pissa")
    before, after = (load_file(f / "adapter_model.safetensors") for f in (pissa_trained.adapter, tmp_path / "back"))
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    assert torch.equal(loaded(pissa_trained.residual, tmp_path / "back"), pissa_trained.logits)


@pytest.mark.filterwarnings("ignore")
def test_back_again_with_rslora_and_patterns(tiny_model, tmp_path):
    trained = train(tiny_model, tmp_path, **RULES["rslora and patterns"])
    convert(trained, tmp_path / "lora")
    pissa("convert", tmp_path / "lora", "--init", trained.init, "--out", tmp_path / "back", "--to", "pissa")
    before, after = config_of(trained.adapter), config_of(tmp_path / "back")
    assert all(before[key] == after[key] for key in ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora"))
    assert torch.equal(loaded(trained.residual, tmp_path / "back"), trained.logits)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_factors_are_stacked_in_their_dtype(pissa_trained, tmp_path, dtype):
    """[A; A0] and [B, -B0], bit by bit."""
    made = [
        changed(source, tmp_path / source.name, lambda tensors: {key: t.to(dtype) for key, t in tensors.items()})
        for source in (pissa_trained.adapter, pissa_trained.init)
    ]
    pissa("convert", made[0], "--init", made[1], "--out", tmp_path / "out")
    out, after, before = (load_file(f / "adapter_model.safetensors") for f in (tmp_path / "out", *made))
    for key, tensor in out.items():
        side = key.split(".lora_")[1][0]
        wanted = [after[key], before[key] if side == "A" else -before[key]]
        assert tensor.dtype == dtype and torch.equal(tensor, torch.cat(wanted, dim=0 if side == "A" else 1))


@pytest.mark.parametrize(("r", "alpha"), [(4, 8), (16, 16), (128, 128), (6, 5), (7, 1), (100, 3)])
@pytest.mark.parametrize("rslora", [False, True])
def test_the_scaling_stays(pissa_trained, tmp_path, r, alpha, rslora):
    """alpha / r to the last bit; alpha / sqrt(r), where sqrt(2) is no float, within two of its last bits."""
    fields = {"lora_alpha": alpha, "use_rslora": rslora}
    made = [of_rank(r, source, tmp_path, **fields) for source in (pissa_trained.adapter, pissa_trained.init)]
    pissa("convert", made[0], "--init", made[1], "--out", tmp_path / "out")
    config = config_of(tmp_path / "out")
    before, after = (a / (math.sqrt(n) if rslora else n) for a, n in ((alpha, r), (config["lora_alpha"], config["r"])))
    assert after == before or (rslora and abs(after / before - 1) < 4.5e-16)
    assert config["use_rslora"] is rslora and config["r"] == 2 * r


def test_the_logits_are_compared_where_that_is_asked_for(pissa_trained, tiny_model, tmp_path, capsys):
    """On a residual as it is released, with its start in the folder."""
    shutil.copytree(pissa_trained.residual, tmp_path / "released")
    shutil.copytree(pissa_trained.init, tmp_path / "released/pissa_init")
    check = ("--check", tmp_path / "released", "--base-folder", tiny_model)
    pissa("convert", pissa_trained.adapter, "--init", tmp_path / "released", "--out", tmp_path / "out", *check)
    assert "Checked: its logits are within" in capsys.readouterr().out
    words = ("--init", tmp_path / "released", "--out", tmp_path / "back", "--to", "pissa")
    pissa("convert", tmp_path / "out", *words, *check)
    assert "Checked: its logits are within" in capsys.readouterr().out


def licensed(folder, name):
    (folder / "README.md").write_text(f"---\nlicense: {name}\n---\n\n# A model\n", encoding="utf-8")


@pytest.mark.parametrize(("of_adapter", "named"), [(None, "llama2"), ("llama2", "llama2"), ("mit", None)])
def test_the_card_names_the_licence_that_the_sources_agree_in(pissa_trained, tmp_path, of_adapter, named):
    """That of the residual around the start, for one; of two that differ none is taken."""
    (tmp_path / "residual").mkdir()
    (tmp_path / "residual/config.json").write_text("{}", encoding="utf-8")
    licensed(tmp_path / "residual", "llama2")
    start = shutil.copytree(pissa_trained.init, tmp_path / "residual/pissa_init")
    trained = shutil.copytree(pissa_trained.adapter, tmp_path / "trained")
    for one in (start, trained):
        (one / "README.md").unlink(missing_ok=True)  # PEFT's template
    if of_adapter:
        licensed(trained, of_adapter)
    pissa("convert", trained, "--init", start, "--out", tmp_path / "out")
    head = (tmp_path / "out/README.md").read_text(encoding="utf-8").split("---")[1]
    assert [line for line in head.splitlines() if "license" in line] == ([f"license: {named}"] if named else [])
