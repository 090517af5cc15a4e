"""Models that are damaged, or do not fit the spec: every case ends in one message, and no half output."""

import json
import os
import shutil
from pathlib import Path

import pytest
from stage import init_spec, says

from pissa_repro import checkpoint, fetch
from pissa_repro.errors import run_stage


def test_without_a_pad_token_eos_pads_on_the_right(tiny_model):
    from pissa_repro import model

    assert "pad_token" not in json.loads((tiny_model / "tokenizer_config.json").read_text())
    tokenizer = model.load_tokenizer(tiny_model)
    batch = tokenizer(["a", "a b c"], padding=True)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    assert batch["input_ids"][0][-1] == tokenizer.eos_token_id and batch["attention_mask"][0][-1] == 0


@pytest.fixture
def broken(tiny_model, tmp_path):
    """A copy of the tiny model to damage."""
    return Path(shutil.copytree(tiny_model, tmp_path / "broken"))


def edit(path: Path, **changes) -> None:
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def test_a_tokenizer_without_eos_is_refused(broken):
    from pissa_repro import model

    edit(broken / "tokenizer_config.json", eos_token=None)
    says(lambda: model.load_tokenizer(broken), str(broken), "no eos token")


def shards(folder: Path) -> list[Path]:
    """Split the folder's weights into two shards with an index."""
    from safetensors.torch import load_file, save_file

    whole = folder / "model.safetensors"
    tensors = load_file(whole)
    names, parts = sorted(tensors), [folder / f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    where = {name: parts[i % 2] for i, name in enumerate(names)}
    for part in parts:
        save_file({name: tensors[name] for name in names if where[name] == part}, part, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: part.name for name, part in where.items()}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    whole.unlink()
    return parts


def overwrite(path: Path, position: int, content: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(position)
        file.write(content)


def cut(path: Path, size: int) -> None:
    os.truncate(path, path.stat().st_size + size if size < 0 else size)


DAMAGE = {
    "header": (
        lambda f: overwrite(f / "model.safetensors", 8, b"\xff" * 40),
        ["model.safetensors", "damaged", "header"],
    ),
    "header size": (lambda f: overwrite(f / "model.safetensors", 0, b"\xff" * 8), ["model.safetensors", "damaged"]),
    "no bytes": (lambda f: cut(f / "model.safetensors", 0), ["model.safetensors", "damaged"]),
    "cut by a byte": (lambda f: cut(f / "model.safetensors", -1), ["model.safetensors", "bytes", "promises"]),
    "cut in the header": (lambda f: cut(f / "model.safetensors", 100), ["model.safetensors", "damaged"]),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), ["neither model.safetensors", "refused"]),
    "shard gone": (lambda f: shards(f)[1].unlink(), ["model-00002-of-00002.safetensors", "missing"]),
    "shard cut": (lambda f: cut(shards(f)[0], -1), ["model-00001-of-00002.safetensors", "promises"]),
    "index gone": (
        lambda f: (shards(f), (f / "model.safetensors.index.json").unlink()),
        ["model.safetensors.index.json"],
    ),
    "index cut": (lambda f: (shards(f), cut(f / "model.safetensors.index.json", -9)), ["index.json", "damaged"]),
    "index empty": (lambda f: (shards(f), edit(f / "model.safetensors.index.json", weight_map=None)), ["damaged"]),
    "config gone": (lambda f: (f / "config.json").unlink(), ["no config.json"]),
    "config cut": (lambda f: cut(f / "config.json", -9), ["config.json", "damaged"]),
    "quantized": (
        lambda f: edit(f / "config.json", quantization_config={"bits": 4}),
        ["quantized already", "full-prec"],
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_model_is_refused_before_anything_is_made(broken, kind, tmp_path):
    damage, words = DAMAGE[kind]
    damage(broken)
    says(lambda: fetch.fetch_model({"path": str(broken)}), str(broken), *words)
    spec = json.dumps({"stage": "fetch", "version": 1, "model": {"path": str(broken)}})
    with pytest.raises(SystemExit) as caught:
        run_stage(lambda: fetch.main(["--spec", spec, "--out", str(tmp_path / "out.json")]))
    assert str(caught.value).startswith("error: ") and not (tmp_path / "out.json").exists()


def test_whole_shards_are_the_same_model(broken):
    def weights():
        return {name: weight.sum().item() for name, weight in checkpoint.targets(broken, ["q_proj", "lm_head"])}

    before = weights()
    shards(broken)
    assert weights() == before and len(before) == 3


def test_a_model_folder_that_does_not_exist(tmp_path):
    says(lambda: fetch.fetch_model({"path": str(tmp_path / "none")}), "config.models", "none")


@pytest.mark.parametrize(("target", "words"), [("c_attn", ["'c_attn'", "matches no module", "q_proj"]),
                                               ("proj", ["'proj'", "matches no module"]),
                                               ("norm", ["norm", "only matrices"])])  # fmt: skip
def test_a_target_that_matches_nothing_or_no_matrix(tiny_model, target, words):
    from pissa_repro import init

    says(lambda: init.start_model(str(tiny_model), init_spec(target_modules=["q_proj", target])), *words)


@pytest.mark.parametrize("method", ["lora", "pissa", "milora", "olora"])
def test_a_rank_above_the_smaller_side(tiny_model, method):
    from pissa_repro import init

    says(
        lambda: init.start_model(str(tiny_model), init_spec(method=method, rank=65)),
        "config.sweep.ranks",
        "65",
        "model.layers.0.",
        "64",
    )


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_weight_that_is_no_number(broken, value):
    from safetensors.torch import load_file, save_file

    from pissa_repro import init

    tensors = load_file(broken / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = float(value)
    save_file(tensors, broken / "model.safetensors", {"format": "pt"})
    says(lambda: init.start_model(str(broken), init_spec()), "model.layers.1.mlp.up_proj", "NaN or infinite")
