"""The recipes of docs/guides/recipes.md, with stock PEFT, TRL and transformers: each runs, and does what it says."""

import json
from typing import get_args, get_type_hints

import pytest
import torch
from blocks import BLOCK
from helpers import Run
from page import RECIPES, TEXT
from peft import LoraConfig, LoraModel, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from pissa_repro.model.checks import logits as ends
from pissa_repro.model.checks import relative_difference

LLAMA = "meta-llama/Llama-2-7b-hf"
TOKENS = torch.randint(3, 60, (2, 12), generator=torch.Generator().manual_seed(1))
pytestmark = pytest.mark.filterwarnings("ignore")


@torch.no_grad()
def logits(model, **more) -> torch.Tensor:
    return model.eval()(input_ids=TOKENS, **more).logits


def plain(folder: str):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def adapter(folder: str) -> dict[str, torch.Tensor]:
    return load_file(f"{folder}/adapter_model.safetensors")


def apart(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return (found - wanted).abs().max().item()


def plus(adapters: dict[str, float]) -> torch.Tensor:
    """Logits of the untouched model with the updates s B A of these folders, by weight, added to its matrices."""
    model = plain(LLAMA)
    for folder, weight in adapters.items():
        with open(f"{folder}/adapter_config.json", encoding="utf-8") as file:
            config = json.load(file)
        tensors = adapter(folder)
        for key, a in tensors.items():
            if ".lora_A." in key:
                name = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
                b = tensors[key.replace("lora_A", "lora_B")]
                model.get_submodule(name).weight.data += weight * config["lora_alpha"] / config["r"] * b @ a
    return logits(model)


def test_every_block_of_the_page_is_in_a_recipe_that_is_tested():
    assert len(BLOCK.findall(TEXT)) == sum(len(BLOCK.findall(text)) for text in RECIPES.values()) > 10
    assert set(RECIPES) == {"pissa", "conversion", "seq2seq", "int8", "cell", "several"}


FINE_TUNE, CONVERT = "from datasets import", "--init PiSSA-Llama-2-7b-hf-r16 "
STARTS = {
    "PEFT's fast SVD": {},
    "PEFT's exact one": {'init_lora_weights="pissa_niter_4"': 'init_lora_weights="pissa"'},
    "decompose": {FINE_TUNE: f'RESIDUAL = "decomposed"\n{FINE_TUNE}', CONVERT: "--init decomposed "},
}


@pytest.mark.parametrize("start", STARTS)
def test_decompose_fine_tune_convert(recipe, start):
    """The residual with its start is the model; the trained adapter on it is the converted one on the model."""
    ran = recipe("pissa", STARTS[start])
    start = PeftModel.from_pretrained(plain(ran.RESIDUAL), ran.RESIDUAL, subfolder="pissa_init")
    untouched, trained = logits(plain(LLAMA)), logits(ran.peft_model)
    assert apart(logits(start), untouched) < 1e-4 < 1e-2 < apart(logits(plain(ran.RESIDUAL)), untouched)
    assert ran.trainer.state.global_step == 4 and apart(trained, untouched) > 1e-3
    assert apart(logits(ran.lora), trained) < 1e-4
    ours, theirs = adapter("pissa-llama-2-7b-lora"), adapter("by-peft")
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert torch.equal(logits(ran.lora.unload()), untouched)
    raw = PeftModel.from_pretrained(plain(LLAMA), "pissa-llama-2-7b-ft")
    assert apart(logits(raw), trained) > 1e-2, "what was not converted is wrong there"


def test_a_conversion_in_six_steps(recipe):
    """Its three checks are in it. PEFT's conversion of it has the same factors, and the scaling."""
    ran = recipe("conversion")
    ran.model.save_pretrained("by-peft", path_initial_model_for_weight_conversion="./start")
    ours, theirs = adapter("lora"), adapter("by-peft")
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert apart(logits(PeftModel.from_pretrained(plain(LLAMA), "by-peft")), logits(ran.lora)) < 1e-5


LAYER = "layer = lora.base_model.model.model.layers[0].self_attn.q_proj\n"
UNTOUCHED = "untouched = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)\n"
FAULTS = {
    "the adapter as it was trained": {'(untouched, "lora")': '(untouched, "trained")'},
    "the scaling of LoRA": {LAYER: LAYER + 'layer.scaling["default"] = 2.0\n'},
    "the residual": {UNTOUCHED: "untouched = model.unload()\n"},
    "no training": {"range(5)": "range(0)"},
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_its_checks_find_a_conversion_that_went_wrong(recipe, fault):
    with pytest.raises(AssertionError):
        recipe("conversion", FAULTS[fault])


def test_sequence_to_sequence(recipe):
    """T5's converted adapter, on the untouched T5, is the trained model."""
    ran = recipe("seq2seq")
    trained = {name for name, p in ran.lora_model.named_parameters() if p.requires_grad}
    assert len(trained) == 12 and all(".q.lora_" in name or ".v.lora_" in name for name in trained)
    untouched = AutoModelForSeq2SeqLM.from_pretrained(ran.MODEL, dtype=torch.float32)
    wanted, before = (logits(model, decoder_input_ids=TOKENS) for model in (ran.model, untouched))
    found = logits(PeftModel.from_pretrained(untouched, "t5-lora"), decoder_input_ids=TOKENS)
    assert apart(found, wanted) < 1e-5 < 1e-3 < apart(before, wanted)


def test_a_base_in_eight_bits(recipe):
    """It is one, its LoRA trains, and PEFT refuses to start PiSSA from it (pitfall 7)."""
    ran = recipe("int8")
    base = ran.lora_model.get_base_model()
    assert type(base.transformer.h[0].attn.q_proj.base_layer).__name__ == "Linear8bitLt"
    assert all(p.dtype in (torch.float32, torch.int8) for p in base.parameters())
    trained = {name: p for name, p in ran.lora_model.named_parameters() if p.requires_grad}
    assert any("wte.lora_embedding_A" in name for name in trained) and all("lora_" in name for name in trained)
    before = logits(ran.lora_model)
    ran.lora_model.train()(input_ids=TOKENS, labels=TOKENS).loss.backward()
    torch.optim.AdamW(trained.values(), lr=1e-2).step()
    assert apart(logits(ran.lora_model), before) > 1e-3
    with pytest.raises(TypeError, match="re-quantize the residual"):
        get_peft_model(base, LoraConfig(init_lora_weights="pissa", target_modules=["q_proj"]), adapter_name="pissa")


@pytest.mark.parametrize("method", ["lora", "pissa"])
def test_a_cell_is_loaded_and_trained_on(recipe, tiny_model, tiny_rows, tmp_path, method):
    """By stock PEFT and TRL, from the model that is scored."""
    run = Run(tmp_path / "run", tiny_model, tiny_rows, method, steps=2)
    run.init()
    run.train()
    rows = TOKENS.tolist()
    scored = run.merged(rows).logits
    home = tmp_path / "results/cells/llama-2-7b/metamath-100k/pissa-none-r128-lr2e-05-s0"
    home.parent.mkdir(parents=True)
    run.folder.rename(home)
    ran = recipe(
        "cell", {"trainer.train()": "before = ends(model); trainer.train()"}, ends=lambda model: ends(model, rows)
    )
    assert relative_difference(ran.before, scored) < 1e-5
    assert relative_difference(ends(plain("merged"), rows), scored) > 1e-4


def test_every_combination_of_converted_adapters(recipe):
    """PEFT's list of them. Exact ones are the weighted sum of the updates, which stays another's with others."""
    ran = recipe("several", until="### Remove")
    known = get_args(get_type_hints(LoraModel.add_weighted_adapter)["combination_type"])
    assert {*ran.EXACT, *ran.ROUGH} == set(known)
    untouched, wanted = logits(plain(LLAMA)), plus({"sums/lora": 0.7, "words/lora": 0.3})
    for how in (*ran.EXACT, *ran.ROUGH):
        ran.model.set_adapter(how)
        found = logits(ran.model)
        assert found.isfinite().all() and apart(found, untouched) > 1e-3, how
        assert (apart(found, wanted) < 1e-4) == (how in ran.EXACT), how
    for name in ran.PAIR:
        ran.model.set_adapter(name)
        assert apart(logits(ran.model), plus({f"{name}/lora": 1.0})) < 1e-4, name


def test_adapters_are_removed_and_merged(recipe):
    ran = recipe("several")
    untouched, sums = logits(plain(LLAMA)), plus({"sums/lora": 1.0, "words/lora": 1.0})
    assert torch.equal(logits(ran.untouched), untouched)
    assert not any("lora_" in name for name, _ in (*ran.merged.named_modules(), *ran.untouched.named_modules()))
    assert apart(logits(plain("both")), sums) < 1e-4 < 1e-2 < apart(sums, untouched)


def test_layers_are_disabled_and_enabled(recipe):
    """Until they are enabled again, and for the lines of a `with`."""
    record = {"    pass\n": "    within = predicted(model)\n"}
    for call in ("disable", "enable"):
        line = f"model.base_model.{call}_adapter_layers()"
        record[line] = f"{line}; {call}d = predicted(model) #"
    ran = recipe("several", record, until="### Combine", predicted=logits)
    untouched = logits(plain(LLAMA))
    assert torch.equal(ran.disabled, untouched) and torch.equal(ran.within, untouched)
    assert apart(ran.enabled, plus({"words/lora": 1.0})) < 1e-4 < apart(ran.enabled, untouched)


def test_safe_merge_refuses_what_is_no_number(recipe):
    ran = recipe("several", until="### Combine")
    ran.model.base_model.model.model.layers[0].self_attn.q_proj.lora_B["words"].weight.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match="NaNs"):
        ran.model.merge_and_unload(safe_merge=True, adapter_names=["words"])
