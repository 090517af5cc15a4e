"""A model folder that is written anew, some weights replaced: transformers reads it as it reads the source."""

import json
import shutil

import pytest
import torch
from decomposed import same, tensors
from safetensors.torch import load_file
from stage import says
from transformers import AutoModelForCausalLM

from pissa_repro.model import checkpoint, whole
from pissa_repro.model.folder import INDEX, SINGLE


def written(source, out, replace=None, dtype=None):
    out.mkdir()
    whole.write_model(source, out, replace or {}, dtype)
    return out


def state(folder):
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


def test_without_a_change_every_tensor_and_file_is_the_sources(sharded, tmp_path):
    out = written(sharded, tmp_path / "out")
    assert len(list(out.glob("*.safetensors"))) > 3
    assert {path.name for path in out.iterdir()} == {path.name for path in sharded.iterdir()}
    assert same(tensors(out), tensors(sharded)) and same(state(out), state(sharded))
    ours, theirs = (json.loads((folder / INDEX).read_text(encoding="utf-8")) for folder in (out, sharded))
    assert ours["weight_map"] == theirs["weight_map"]
    assert ours["metadata"]["total_size"] == theirs["metadata"]["total_size"]
    for path in sharded.iterdir():
        if path.suffix not in (".safetensors", ".json") or "tokenizer" in path.name:
            assert (out / path.name).read_bytes() == path.read_bytes()


def test_a_replaced_weight_comes_and_goes_as_float32_out_in(tiny_gpt2, tmp_path):
    """GPT-2 stores (in, out): c_fc is (32, 128) in the file, under both namings of the modules."""
    for naming, folder in tiny_gpt2.items():
        module = "transformer.h.1.mlp.c_fc" if naming == "saved" else "h.1.mlp.c_fc"
        seen = []

        def change(weight, seen=seen):
            seen.append((weight.shape, weight.dtype))
            return weight + torch.arange(128.0)[:, None]

        out = written(folder, tmp_path / naming, {module: change})
        before, after = tensors(folder), tensors(out)
        assert seen == [((128, 32), torch.float32)]
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        assert changed == {f"{module}.weight"}
        assert torch.equal(after[f"{module}.weight"], before[f"{module}.weight"] + torch.arange(128.0))
        loaded = AutoModelForCausalLM.from_pretrained(out)
        assert loaded.lm_head.weight is loaded.transformer.wte.weight


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_dtype_is_that_of_all_floats_and_of_the_config(sharded, tmp_path, dtype):
    out = written(sharded, tmp_path / "out", dtype=dtype)
    assert {str(tensor.dtype) for tensor in tensors(out).values()} == {f"torch.{dtype}"}
    loaded = AutoModelForCausalLM.from_pretrained(out)
    assert str(loaded.dtype) == f"torch.{dtype}"
    wanted = AutoModelForCausalLM.from_pretrained(sharded).to(loaded.dtype).state_dict()
    assert same(loaded.state_dict(), wanted)


def test_the_config_names_the_dtype_of_the_weights_and_no_folder(tiny_model, tmp_path):
    source = shutil.copytree(tiny_model, tmp_path / "source")
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    config |= {"torch_dtype": "bfloat16", "_name_or_path": "/home/me/llama"}
    del config["dtype"]
    (source / "config.json").write_text(json.dumps(config), encoding="utf-8")
    out = written(source, tmp_path / "out")
    made = json.loads((out / "config.json").read_text(encoding="utf-8"))
    assert made["torch_dtype"] == "float32" and "_name_or_path" not in made and "dtype" not in made
    assert AutoModelForCausalLM.from_pretrained(out).dtype == torch.float32
    assert not (out / INDEX).exists() and (out / SINGLE).is_file()


def test_what_cannot_be_written_is_refused_and_leaves_no_file(tiny_model, tmp_path):
    says(lambda: written(tiny_model, tmp_path / "a", {"model.layers.7.up_proj": torch.neg}), "model.layers.7.up_proj")
    name = "model.layers.0.mlp.up_proj"
    assert f"{name}.weight" in checkpoint.stored(tiny_model)
    large = {name: lambda weight: weight + 1e6}
    says(lambda: written(tiny_model, tmp_path / "b", large, "float16"), f"{name}.weight", "float16 cannot hold")
    assert not any(path for folder in ("a", "b") for path in (tmp_path / folder).iterdir())


def test_each_tensor_is_read_once_for_several_folders_and_made_once_for_each(tiny_model, tmp_path, monkeypatch):
    honest, read, made = whole.safe_open, [], []
    monkeypatch.setattr(whole, "safe_open", lambda *args, **kwargs: read.append(1) or honest(*args, **kwargs))
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()

    def changes(weight):
        for step in (1, 2):
            made.append((step, (folders[0] / SINGLE).exists()))
            yield weight * step

    (shard,) = whole.shards(tiny_model)
    whole.write_shard(shard, folders, {"model.layers.0.mlp.up_proj": changes}, frozenset())
    assert len(read) == len(shard.places) and made == [(1, False), (2, False)]
    one, two = (load_file(folder / SINGLE)["model.layers.0.mlp.up_proj.weight"] for folder in folders)
    assert torch.equal(2 * one, two)
