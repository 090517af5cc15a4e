"""Merged weight by weight, a cell has the bits of one that is merged whole: checks, logits and files."""

import json
from types import SimpleNamespace

import pytest
import torch
from helpers import Run
from safetensors.torch import load_file
from stage import says
from transformers import AutoModelForCausalLM, Ernie4_5_MoeConfig, Ernie4_5_MoeForCausalLM

from pissa_repro.model.load import load_base
from pissa_repro.model.merged import Merged, TrainedCell, merged_model
from pissa_repro.model.merging import Streamed, streamed_model
from pissa_repro.runtime.record import read_json
from pissa_repro.scoring import engines
from pissa_repro.sources.fetched import EMBEDDED

PROMPTS = [[3, 40, 17, 9], [50, 8]]
CELLS = {
    "pissa": ("pissa", "none", {}),
    "qpissa": ("pissa", "nf4", {"dtype": "bfloat16"}),
    "core": ("lora_xs", "none", {}),
    "full": ("full", "none", {}),
    "gpt2": ("pissa", "none", {"target_modules": ["attn.c_attn", "mlp.c_fc"]}),
    "dora": ("lora", "none", {"lora": {"use_dora": True}}),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_rows, tiny_gpt2):
    """A trained cell by its name, with the record of its base."""
    folder, found = tmp_path_factory.mktemp("merging"), {}
    for name, (method, quant, changes) in CELLS.items():
        model = tiny_gpt2["hub"] if name == "gpt2" else EMBEDDED
        run = Run(folder / name, model, tiny_rows, method, quant, steps=2, batch_size=2, **changes)
        run.init()
        run.train()
        found[name] = TrainedCell(run.spec, run.start if run.init_spec else None, run.trained), read_json(run.model)
    return found


def both(cell, stored):
    """The cell merged both ways."""
    return streamed_model(cell, stored, PROMPTS, "cpu"), merged_model(cell, stored, PROMPTS, "cpu")


def saved(ours, whole, folder, dtype):
    """The folders that they write, with configs that are the same."""
    places = [folder / dtype / name for name in ("ours", "whole")]
    for merged, place in zip((ours, whole), places, strict=True):
        place.mkdir(parents=True)
        merged.save(place, dtype)
    for name in ("config.json", "generation_config.json"):
        one, other = (json.loads((place / name).read_text(encoding="utf-8")) for place in places)
        assert one == other
    return places


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    assert one.keys() == other.keys()
    return all(one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("name", [name for name in CELLS if name != "dora"])
def test_checks_logits_and_files_are_those_of_the_whole_model(made, tmp_path, name):
    ours, whole = both(*made[name])
    assert isinstance(ours, Streamed) and ours.checks == whole.checks
    assert torch.equal(ours.logits, whole.logits) and torch.equal(ours.untrained, whole.untrained)
    for dtype in ("float32", "bfloat16"):
        places = saved(ours, whole, tmp_path, dtype)
        if name != "gpt2":  # whose files leave out a part of the names, which transformers adds
            one, other = (load_file(place / "model.safetensors") for place in places)
            assert same(one, other)
        one, other = (AutoModelForCausalLM.from_pretrained(place, dtype="auto").state_dict() for place in places)
        assert same(one, other)


@pytest.mark.parametrize("quant", ["none", "nf4"])
def test_a_base_with_experts_is_written_as_its_files_are(tmp_path, tiny_model, quant):
    """transformers joins the experts of a layer; each stays a tensor of its own."""
    sizes = {"vocab_size": 300, "hidden_size": 64, "intermediate_size": 128, "moe_intermediate_size": 32}
    heads = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2, "pad_token_id": 0}
    torch.manual_seed(0)
    model = Ernie4_5_MoeForCausalLM(Ernie4_5_MoeConfig(**sizes, **heads, moe_num_experts=4, moe_k=2))
    model.save_pretrained(tmp_path / "experts")
    stored = {"path": str(tmp_path / "experts")}
    spec = {"stage": "base", "quant": quant, "dtype": "bfloat16", "target_modules": ["q_proj", "o_proj"]}
    ours, whole = both(TrainedCell(spec, None, tmp_path), stored)
    assert isinstance(ours, Streamed) and torch.equal(ours.logits, whole.logits)
    files = [load_file(place / "model.safetensors") for place in saved(ours, whole, tmp_path, "bfloat16")]
    assert same(*files) and any(".experts.3." in name for name in files[0])


def test_what_looks_at_the_weights_is_merged_whole(made):
    """DoRA's magnitudes are norms of W."""
    ours, whole = both(*made["dora"])
    assert isinstance(ours, Merged) and torch.equal(ours.logits, whole.logits)


def test_a_training_that_changed_nothing_is_found(made, tmp_path):
    cell, stored = made["full"]
    load_base(stored["path"], device="cpu").save_pretrained(tmp_path)
    with pytest.raises(Exception, match="do not change the model's output"):
        streamed_model(cell._replace(trained=tmp_path), stored, PROMPTS, "cpu")


def test_a_temporary_folder_without_room_is_said_before_it_is_written_to(made, tmp_path, monkeypatch):
    """What vLLM reads is as large as the files of the model, whichever way it is merged."""
    files, free = tmp_path / "files", []
    files.mkdir()
    for merged in both(*made["pissa"]):
        merged.save(files, "bfloat16")
        size = sum(path.stat().st_size for path in files.glob("*.safetensors"))
        monkeypatch.setattr(engines.shutil, "disk_usage", lambda _: SimpleNamespace(free=free[-1]))
        free.append(size)
        engines._check_room(str(files), merged.model, "bfloat16")
        free.append(size * 9 // 10)
        says(
            lambda model=merged.model: engines._check_room(str(files), model, "bfloat16"), "TMPDIR", str(files), "free"
        )
