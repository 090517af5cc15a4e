"""Which weights are the model's: the same for init, the fingerprint and transformers, or the folder is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from damage import add, edit, rewrite, shards
from safetensors.torch import load_file, save_file
from stage import LLAMA, says

from pissa_repro.model import checkpoint
from pissa_repro.model.base import module_name
from pissa_repro.model.load import load_base
from pissa_repro.sources.fetched import fetch_model

INDEX = "model.safetensors.index.json"
Q = "model.layers.1.self_attn.q_proj"


@pytest.fixture
def folder(tiny_model, tmp_path):
    """A copy of the tiny model to change."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


@pytest.fixture
def gpt2(tiny_gpt2, tmp_path):
    """A copy of the tiny GPT-2 as on the hub."""
    return Path(shutil.copytree(tiny_gpt2["hub"], tmp_path / "gpt2"))


def fingerprint(folder):
    return fetch_model({"path": str(folder)})["fingerprint"]


def same_weights(folder, other):
    """Both load, to the same parameters."""
    first, second = (dict(load_base(f).named_parameters()) for f in (folder, other))
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_single_file_beside_an_older_index_is_refused(folder):
    """Case 2: init read the shards of the index, transformers the single file."""
    whole = (folder / "model.safetensors").read_bytes()
    shards(folder)
    (folder / "model.safetensors").write_bytes(whole)
    for read in (fetch_model, lambda _: checkpoint.shapes(folder, LLAMA), lambda _: load_base(folder)):
        says(
            lambda read=read: read({"path": str(folder)}),
            str(folder),
            "model.safetensors",
            INDEX,
            "two models",
            "Delete",
        )


def test_an_index_of_the_single_file_is_the_same_model(folder, tiny_model):
    """Case 2: an index that names the single file alone says nothing else, and its promises are checked."""
    names = list(load_file(folder / "model.safetensors"))
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "model.safetensors")}
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")
    assert fingerprint(folder) == fingerprint(tiny_model) and same_weights(folder, tiny_model)
    index["weight_map"]["model.more.weight"] = "model.safetensors"
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")
    says(lambda: fingerprint(folder), "model.safetensors", "lacks model.more.weight")


def test_what_is_not_read_is_not_the_model(folder, tiny_model):
    """Case 2: other formats beside the weights change neither the fingerprint nor the model; alone they are refused."""
    zeros = {name: torch.zeros_like(tensor) for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(zeros, folder / "consolidated.safetensors")
    torch.save(zeros, folder / "pytorch_model.bin")
    (folder / "model.safetensors.index.json.old").write_text("{", encoding="utf-8")
    assert fingerprint(folder) == fingerprint(tiny_model) and same_weights(folder, tiny_model)
    (folder / "model.safetensors").unlink()
    says(lambda: fingerprint(folder), str(folder), "neither model.safetensors", "Convert")


@pytest.mark.parametrize("extra", [f"{Q}.bias", "model.layers.2.mlp.up_proj.weight", "v_head.weight", "attn.bias"])
def test_weights_that_the_class_does_not_use_are_refused(folder, extra):
    """Case 2: transformers left them out with a warning, and another model was trained."""
    add(folder, **{extra.replace(".", "__"): torch.ones(64)})
    words = [str(folder), extra, "LlamaForCausalLM", "does not use", "1 such", "another model would be trained"]
    says(lambda: load_base(folder), *words)


def test_more_layers_than_the_config_says_are_refused(folder):
    """Case 2: the layers above were left out."""
    edit(folder / "config.json", num_hidden_layers=1)
    says(lambda: load_base(folder), "model.layers.1.", "does not use", "config.json")


def test_tables_that_are_made_anew_do_no_harm(folder, tiny_model):
    """Case 2: rotary tables and a head that equals the embedding it is tied to."""
    add(folder, **{"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)})
    assert same_weights(folder, tiny_model)
    embedding = load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
    edit(folder / "config.json", tie_word_embeddings=True)
    add(folder, **{"lm_head.weight": embedding.clone()})
    assert load_base(folder).lm_head.weight.equal(embedding)


def test_masks_of_older_gpt2_files_do_no_harm(gpt2, tiny_gpt2):
    """Case 2: attn.bias and attn.masked_bias are no biases but the causal mask."""
    masks = {"h.1.attn.bias": torch.ones(1, 1, 512, 512).tril(), "h.1.attn.masked_bias": torch.tensor(-1e4)}
    add(gpt2, **masks)
    assert same_weights(gpt2, tiny_gpt2["saved"])
    add(gpt2, **{"h.1.attn.masked_bias": torch.ones(32)})
    says(lambda: load_base(gpt2), "h.1.attn.masked_bias", "does not use")


def test_a_tied_head_of_its_own_is_refused(folder):
    """Case 2: transformers does not tie it, and what it saves says that it is tied."""
    edit(folder / "config.json", tie_word_embeddings=True)
    says(lambda: load_base(folder), str(folder), "tie_word_embeddings", "two different")


def test_another_shape_is_told_with_both(folder):
    """Case 2: before any weight is read; the message was that of a report further up."""
    edit(folder / "config.json", intermediate_size=96)
    says(lambda: load_base(folder), "model.layers.0.mlp.", "(64, 128)", "(64, 96)", "config.json")


def test_one_weight_under_two_names_is_refused(folder):
    """Case 2: init decomposed both, transformers took one of them."""
    add(folder, **{f"{Q}.weight".removeprefix("model."): torch.ones(64, 64)})
    says(lambda: load_base(folder), f"{Q}.weight", "are one weight", "Keep one")


def test_one_tensor_in_two_shards_is_refused(folder):
    """Case 2: which of the two counts depends on the order of reading."""
    first, second = shards(folder)
    tensors = load_file(first)
    save_file(load_file(second) | dict([next(iter(tensors.items()))]), second, {"format": "pt"})
    says(lambda: fingerprint(folder), second.name, first.name, "holds")


@pytest.mark.parametrize("key", ["configuration_files", "transformers_weights", "fusion_config"])
def test_a_config_that_leads_elsewhere_is_refused(folder, key):
    """Case 2: transformers reads the files that these keys name, init and the fingerprint do not."""
    save_file({"a": torch.ones(1)}, folder / "other.safetensors")
    value = {"configuration_files": ["config.4.0.0.json"], "transformers_weights": "other.safetensors"}.get(
        key, {"a": True}
    )
    edit(folder / "config.json", **{key: value})
    says(lambda: fingerprint(folder), "config.json", key, "Remove it")


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt", "vocab.txt", "special_tokens_map.json", "spiece.model"])
def test_the_fingerprint_covers_the_files_of_slow_tokenizers(folder, tiny_model, name):
    """Case 2: what a tokenizer may be made of is a part of what was read."""
    (folder / name).write_text("{}", encoding="utf-8")
    once = fingerprint(folder)
    (folder / name).write_text("{ }", encoding="utf-8")
    assert len({fingerprint(tiny_model), once, fingerprint(folder)}) == 3


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"])
def test_an_adapter_beside_the_weights_is_no_base(folder, name):
    """Case 17: transformers puts it on the model without a word."""
    (folder / name).write_text('{"base_model_name_or_path": "owner/base"}', encoding="utf-8")
    words = ["owner/base"] if name == "adapter_config.json" else []
    says(lambda: fingerprint(folder), str(folder), name, "no base model", "merge", *words)
    (folder / "config.json").unlink()
    says(lambda: fingerprint(folder), "holds an adapter", *words)


@pytest.mark.parametrize("name", ["pissa_init", "loftq_init"])
def test_a_published_residual_is_no_base(folder, name):
    """Case 17: W - BA was taken for W; the model is the residual and its adapter."""
    (folder / name).mkdir()
    (folder / name / "adapter_config.json").write_text('{"base_model_name_or_path": "owner/base"}', encoding="utf-8")
    says(lambda: fingerprint(folder), str(folder), "residual", f"{name}/", "base model", "(owner/base)")
    for named, said in (("owner/source", "made from (owner/source)."), (None, "made from.")):
        (folder / name / "base.json").write_text(json.dumps({"name": named}), encoding="utf-8")
        says(lambda: fingerprint(folder), said)


@pytest.mark.parametrize(("place", "value"), [("model.norm.weight", "nan"), ("model.embed_tokens.weight", "inf")])
def test_values_that_no_start_reads_are_finite_too(folder, place, value):
    """Case 17: init reads the target modules only; a NaN in a norm was trained on."""
    weight = load_file(folder / "model.safetensors")[place]
    weight.view(-1)[5] = float(value)
    add(folder, **{place: weight})
    says(lambda: load_base(folder), str(folder), place, "NaN or infinite")


def test_init_and_transformers_read_the_same_values(folder):
    """Case 2: also in shards, in half precision, and under a name without the base model's."""
    rewrite(folder / "model.safetensors", lambda h: {name.removeprefix("model."): entry for name, entry in h.items()})
    add(folder, **{f"{Q}.weight".removeprefix("model."): torch.randn(64, 64).bfloat16()})
    shards(folder)
    model = load_base(folder)
    for name, weight in checkpoint.targets(folder, LLAMA):
        assert torch.equal(model.get_parameter(f"{module_name(model, name)}.weight"), weight)


SMALL = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
EXPERTS = {"num_key_value_heads": 2, "num_experts_per_tok": 2}
CLASSES = {
    "Mixtral": EXPERTS | {"num_local_experts": 4},
    "Qwen3Moe": EXPERTS | {"num_experts": 4, "moe_intermediate_size": 16, "head_dim": 8},
    "GPTNeoX": {},
    "Phi3": {"pad_token_id": 0},
}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", CLASSES)
def test_what_transformers_saves_is_a_base(name, tied, tmp_path):
    """Case 2: no refusal where it renames, splits or joins tensors, as the experts of a mixture, or ties the head."""
    import transformers

    config = getattr(transformers, f"{name}Config")(**SMALL, **CLASSES[name], tie_word_embeddings=tied)
    saved = transformers.AutoModelForCausalLM.from_config(config)
    saved.save_pretrained(tmp_path)
    loaded, wanted = load_base(tmp_path).state_dict(), saved.state_dict()
    assert loaded.keys() == wanted.keys() and all(torch.equal(loaded[key], wanted[key]) for key in wanted)
