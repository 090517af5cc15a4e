"""Weights are read, changed and placed one by one, and what comes out has the bits of a model that is loaded whole."""

import shutil

import pytest
import torch
from encoders import TARGETS, save_encoder_decoder
from helpers import Run
from stage import LLAMA
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    Ernie4_5_MoeConfig,
    Ernie4_5_MoeForCausalLM,
)

from pissa_repro.model import factors
from pissa_repro.model.adapter import attach
from pissa_repro.model.base import cast, set_base
from pissa_repro.model.checks import logits, relative_difference
from pissa_repro.model.load import lent_base, load_base
from pissa_repro.runtime.record import read_json

PROMPTS = [[3, 40, 17, 9], [250, 8]]
MODULES = {"llama": LLAMA, "gpt2": ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"], "t5": TARGETS["t5"]}


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tiny_model, tiny_gpt2):
    """Models with files in bfloat16 or float32, other names, tied heads, a head of its own, and joined experts."""
    place = tmp_path_factory.mktemp("lent")
    sizes = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "moe_intermediate_size": 16}
    heads = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
    experts = Ernie4_5_MoeForCausalLM(Ernie4_5_MoeConfig(**sizes, **heads, moe_num_experts=4, moe_k=2, pad_token_id=0))
    experts.bfloat16().save_pretrained(place / "experts")
    AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16).save_pretrained(place / "rounded")
    shutil.copy(tiny_model / "tokenizer.json", place / "rounded")
    encoders = {kind: save_encoder_decoder(place / kind, kind) for kind in ("t5", "gated")}
    own = {name: place / name for name in ("experts", "rounded")}
    return {"llama": tiny_model, "gpt2": tiny_gpt2["hub"], **own, **encoders}


def whole(folder):
    """The model as transformers loads it."""
    auto = AutoModelForSeq2SeqLM if folder.name in ("t5", "gated") else AutoModelForCausalLM
    return auto.from_pretrained(folder, dtype=torch.float32).eval()


def state(model):
    """Every weight and buffer of a model, the scales of packed weights too, by name."""
    return {**dict(model.named_buffers()), **model.state_dict()}


def same(one, other):
    """Whether two models have the same tensors in all but place."""
    found, wanted = state(one), state(other)
    assert found.keys() == wanted.keys()
    assert {name: tensor.dtype for name, tensor in found.items()} == {name: t.dtype for name, t in wanted.items()}
    return [name for name, tensor in found.items() if not torch.equal(tensor, wanted[name])] == []


@pytest.mark.parametrize("kind", ["llama", "rounded", "gpt2", "experts", "t5", "gated"])
def test_a_model_is_what_transformers_loads(folders, kind):
    """With nothing placed it gives the same logits already; then it has the same tensors, tied in the same way."""
    lent, wanted = lent_base(folders[kind], device="cpu"), whole(folders[kind])
    weights = {id(p): p for p in lent.model.parameters()}
    assert all(p.isnan().all() and p.untyped_storage().nbytes() == 4 for p in weights.values())
    assert torch.equal(lent.logits(PROMPTS), logits(wanted, PROMPTS))
    assert len(lent.rests) == len(weights) > 0
    placed = lent.place()
    assert placed is lent.model and not lent.rests and same(placed, wanted)
    assert len({id(p) for p in placed.parameters()}) == len(weights) == len(list(wanted.parameters()))
    assert torch.equal(logits(placed, PROMPTS), logits(wanted, PROMPTS))
    assert all(p.requires_grad and p.is_contiguous() for p in placed.parameters())


def test_a_weight_that_its_module_is_not_called_for_is_found(folders, monkeypatch):
    """A class may take the weight of a layer and compute by itself; the model is then placed first."""
    lent, wanted = lent_base(folders["llama"], device="cpu"), logits(whole(folders["llama"]), PROMPTS)
    head = lent.model.lm_head
    monkeypatch.setattr(type(lent.model.model.norm), "forward", past(head, type(lent.model.model.norm).forward))
    found = lent.logits(PROMPTS)
    assert not lent.rests and found.isfinite().all() and torch.equal(found, wanted)


def past(head, honest):
    """A norm that looks at the weight of the head, without changing what it gives."""
    return lambda norm, x: honest(norm, x) + 0 * head.weight.sum()


@pytest.mark.parametrize(
    ("quant", "dtype"), [("none", "bfloat16"), ("nf4", "float32"), ("nf4", "bfloat16"), ("int8", "bfloat16")]
)
@pytest.mark.parametrize("kind", MODULES)
def test_a_cell_has_the_bits_of_one_that_was_loaded_whole(tmp_path, folders, tiny_rows, kind, quant, dtype):
    run = Run(tmp_path, folders[kind], tiny_rows, "pissa", quant, dtype=dtype, target_modules=MODULES[kind])
    run.init()
    prepared, base = run.prepare(), whole(folders[kind])
    prompts = [example["input_ids"] for example in prepared.examples[:4]]
    untouched = logits(base, prompts)
    set_base(base, factors.load(run.start, read_json(run.model)), quant, dtype, pack=True)
    wanted = attach(base, run.start)
    cast((p for p in wanted.parameters() if not p.requires_grad), dtype)
    assert same(prepared.model, wanted)
    assert prepared.logits_difference == relative_difference(logits(wanted, prompts), untouched) > 0
    trains = {name: p.requires_grad for name, p in wanted.named_parameters()}
    assert {name: p.requires_grad for name, p in prepared.model.named_parameters()} == trains


def test_dora_takes_its_norms_before_the_base_is_rounded(tmp_path, folders, tiny_rows):
    run = Run(tmp_path, folders["llama"], tiny_rows, "pissa", dtype="bfloat16", lora={"use_dora": True})
    run.init()
    prepared, base = run.prepare(), load_base(folders["llama"])
    set_base(base, factors.load(run.start, read_json(run.model)), "none", "bfloat16", pack=True)
    wanted = attach(base, run.start, {"use_dora": True})
    cast((p for p in wanted.parameters() if not p.requires_grad), "bfloat16")
    assert same(prepared.model, wanted)
