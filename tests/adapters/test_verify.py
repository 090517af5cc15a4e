"""`pissa verify` names the arrow that breaks: each case damages one thing, and one arrow has to say so."""

import json
import resource
import shutil
from collections import namedtuple

import peer
import pytest
from commands import pissa
from helpers import Run
from safetensors.torch import load_file, save_file
from stage import says

from pissa_repro.adapters import verify
from pissa_repro.adapters.arrows import BROKEN, NOT, OK
from pissa_repro.runtime import paths
from pissa_repro.runtime.record import content, read_json, write_json
from pissa_repro.sources.fetched import fetch_model

KINDS = {
    "pissa": ("pissa", "none", {"rslora": True, "alpha": 3.0}),
    "dora": ("pissa", "none", {"lora": {"use_dora": True}}),
    "qpissa": ("pissa", "nf4", {"options": {"alternations": 2}}),
    "full": ("full", "none", {}),
}
CELL = ["save", "load", "init", "train state", "merge", "export", "convert", "serve"]


@pytest.fixture(scope="module")
def results(tmp_path_factory, tiny_model, tiny_rows):
    """A results folder with a cell of every kind, and a copy of their model. Do not write to it."""
    home = tmp_path_factory.mktemp("sweep")
    shutil.copytree(tiny_model, home / "model")
    for kind, (method, quant, changes) in KINDS.items():
        cell = home / "results/cells/tiny/rows" / kind
        run = Run(cell, home / "model", tiny_rows, method, quant, steps=3, learning_rate=5e-3, **changes)
        run.init()
        run.train()
        if run.init_spec:
            shutil.copytree(run.start, home / "results/init/tiny" / kind)
            shutil.rmtree(run.start)
        write_json(paths.model("tiny", home / "results"), fetch_model({"path": str(home / "model")}))
    return home / "results"


@pytest.fixture
def own(results, tmp_path):
    """A copy of the PiSSA cell's results that may be damaged: (its folder, its start, its model)."""
    shutil.copytree(results.parent, tmp_path / "own")
    copy = tmp_path / "own/results"
    record = paths.model("tiny", copy)
    write_json(record, {**read_json(record), "path": str(tmp_path / "own/model")})
    return copy / "cells/tiny/rows/pissa", copy / "init/tiny/pissa", tmp_path / "own/model"


def walked(path, **asked):
    return verify.verify(verify.Asked(path, **asked))


def states(path, **asked):
    return {arrow.name: arrow.state for arrow in walked(path, **asked).arrows}


def breaks(path, name, *words, **asked):
    """The first arrow that breaks has this name and says every word; none after it is tried."""
    found = walked(path, **asked)
    assert found.broken is not None and found.broken.name == name, found.arrows
    assert all(word in found.broken.said for word in words), found.broken.said
    after = found.arrows[found.arrows.index(found.broken) + 1 :]
    assert all(arrow.state == NOT and f"`{name}` is broken" in arrow.said for arrow in after)


def edited(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | fields), encoding="utf-8")


def retold(path, change):
    """The tensors of a file, changed."""
    save_file(change(load_file(path)), path, {"format": "pt"})


def flip(path):
    """Change the last byte of a file of weights."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def without_first(tensors):
    return {key: tensors[key] for key in sorted(tensors)[2:]}


def renamed(tensors):
    return {key.replace("layers.0.mlp", "layers.0.other"): tensor for key, tensor in tensors.items()}


@pytest.mark.parametrize(
    ("kind", "untried"),
    [("pissa", ["serve"]), ("dora", ["convert", "serve"]), ("qpissa", ["convert", "serve"]),
     ("full", ["save", "init", "convert", "serve"])],
)  # fmt: skip
def test_every_arrow_of_a_cell_holds(results, kind, untried, capsys):
    pissa("verify", results / "cells/tiny/rows" / kind, "--no-serve")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["arrow", *CELL]
    for line in lines[1:]:
        name = line.split("  ")[0]
        assert f" {NOT if name in untried else OK} " in line
    assert "e-0" in lines[5], "merging has a figure"


@pytest.mark.parametrize("change", [renamed, without_first, None], ids=["renamed", "missing", "cut"])
@pytest.mark.parametrize("file", ["factors/factors.safetensors", "adapter_model.safetensors"])
def test_a_trained_tensor_is_not_what_the_training_left(own, file, change):
    path = own[0] / "trained" / file
    retold(path, change) if change else path.write_bytes(path.read_bytes()[:-100])
    breaks(own[0], "train state", file)


@pytest.mark.parametrize(
    ("change", "said"), [(renamed, "has no place for"), (without_first, "lacks")], ids=["renamed", "missing"]
)
def test_a_top_level_that_the_record_agrees_with_is_held_to_the_model(own, change, said):
    """Whoever writes a wrong LoRA also writes its hash: logits and PEFT's own keys decide."""
    retold(own[0] / "trained/adapter_model.safetensors", change)
    edited(own[0] / "train.json", trained_sha256=content(own[0] / "trained"))
    breaks(own[0], "convert", said, "layers.0")


def test_a_top_level_of_another_scaling(own):
    """rsLoRA at twice the rank needs sqrt(2) alpha; the plain alpha is 41 % off."""
    edited(own[0] / "trained/adapter_config.json", lora_alpha=3.0)
    breaks(own[0], "train state", "adapter_config.json")
    edited(own[0] / "train.json", trained_sha256=content(own[0] / "trained"))
    breaks(own[0], "convert", "the logits differ by")


def test_a_start_that_is_not_the_training_s(own, results):
    breaks(own[0], "save", "the training began with", init=results / "init/tiny/dora")
    flip(own[1] / "factors.safetensors")
    breaks(own[0], "save", "changed after they were made")
    shutil.rmtree(own[1])
    breaks(own[0], "save", "--init")


def test_a_folder_of_a_newer_version(own):
    edited(own[0] / "trained/factors/base.json", format=2)
    breaks(own[0], "train state", "format 2")
    edited(own[1] / "base.json", format=2)
    breaks(own[0], "save", "format 2; this version reads 1")


def test_a_base_that_is_another(own, tmp_path):
    """Changed since it was fetched; quantized since; another one's record."""
    _, _, model = own
    flip(model / "model.safetensors")
    breaks(own[0], "load", "another revision, size or dtype")
    edited(model / "config.json", quantization_config={"quant_method": "bitsandbytes"})
    breaks(own[0], "load", "quantized already")
    rounded = tmp_path / "rounded"
    peer.AutoModelForCausalLM.from_pretrained(peer_model(own), dtype="bfloat16").save_pretrained(rounded)
    write_json(tmp_path / "tiny.json", fetch_model({"path": str(rounded)}))
    breaks(own[0], "load", "other weights", model=tmp_path / "tiny.json")


def peer_model(own):
    """The folder of the model, whole again."""
    config = json.loads((own[2] / "config.json").read_text(encoding="utf-8"))
    (own[2] / "config.json").write_text(
        json.dumps({key: value for key, value in config.items() if key != "quantization_config"}), encoding="utf-8"
    )
    return own[2]


def test_a_disk_that_is_full_breaks_nothing(results, monkeypatch):
    """Told before, and in the middle of a file."""
    cell, usage = results / "cells/tiny/rows/pissa", namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100, 90, 10))
    found = {arrow.name: arrow for arrow in walked(cell).arrows}
    assert found["merge"].state == OK
    assert found["export"].state == NOT and "10 are free there" in found["export"].said
    monkeypatch.undo()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        found = walked(cell)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    export = next(arrow for arrow in found.arrows if arrow.name == "export")
    assert export.state == NOT and "cannot write" in export.said and "safetensors" in export.said


@pytest.fixture(scope="module")
def base(tiny_model):
    return fetch_model({"path": str(tiny_model)})


def test_every_arrow_of_a_stock_adapter_holds(pissa_trained, base, capsys):
    words = ("--base", base["path"], "--init", pissa_trained.init, "--residual", pissa_trained.residual)
    pissa("verify", pissa_trained.adapter, *words, "--no-serve")
    found = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines() if f" {OK} " in line]
    assert found == ["save", "load", "init", "train state", "convert", "merge"]
    alone = states(pissa_trained.adapter, base=base)
    assert [name for name, state in alone.items() if state == NOT] == ["init", "train state", "convert", "serve"]


@pytest.mark.filterwarnings("ignore")
def test_a_plain_adapter_on_a_head_that_is_the_embedding_too(tied, tmp_path, capsys):
    """PEFT loads it, and nothing is wrong with it; merging moves the embedding."""
    trained = peer.train(tied, tmp_path, target_modules=["q_proj", "lm_head"], steps=20, rate=2e-2)
    found = states(trained.adapter, base=fetch_model({"path": str(tied)}))
    assert (found["load"], found["merge"]) == (OK, BROKEN)
    peer.convert(trained, tmp_path / "out", "--check", tied, "--base-folder", tied)
    assert "Checked: its logits are within 0.0e+00" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore")
def test_a_stock_adapter_on_a_head_of_its_own(tiny_model, base, tmp_path):
    """PEFT saves the head's frozen weight beside the factors; there and back it is left out."""
    trained = peer.train(tiny_model, tmp_path, target_modules=["q_proj", "lm_head"], **peer.START["pissa"])
    found = walked(trained.adapter, base=base, init=trained.init, residual=trained.residual)
    assert next(arrow for arrow in found.arrows if arrow.name == "convert").state == OK, found.arrows


def test_a_stock_adapter_that_is_damaged(pissa_trained, base, tmp_path, tiny_gpt2):
    asked = {"base": base, "init": pissa_trained.init, "residual": pissa_trained.residual}
    lone = lambda tensors: {key: tensors[key] for key in sorted(tensors)[1:]}  # noqa: E731
    for name, arrow, change, word in (
        ("lone", "save", lone, "has no lora_A"),
        ("missing", "load", without_first, "lacks"),
        ("renamed", "load", renamed, "layers.0"),
    ):
        breaks(peer.changed(pissa_trained.adapter, tmp_path / name, change), arrow, word, **asked)
    scaled = peer.changed(pissa_trained.adapter, tmp_path / "scaled", lora_alpha=16)
    breaks(scaled, "train state", "alpha 16", **asked)
    gpt2 = fetch_model({"path": str(tiny_gpt2["saved"])})
    breaks(pissa_trained.adapter, "load", "transformers cannot load", base=gpt2)


def test_a_converted_adapter_that_is_passed_for_a_raw_one(pissa_trained, base, tmp_path):
    peer.convert(pissa_trained, tmp_path / "lora")
    asked = {"base": base, "init": pissa_trained.init, "residual": pissa_trained.residual}
    breaks(tmp_path / "lora", "train state", "converted already", **asked)


def test_two_pissa_adapters_on_one_residual(pissa_trained, base, tmp_path):
    """The second one was started from what the first has left: its start is not the untouched model there."""
    second = peer.train(pissa_trained.residual, tmp_path, **peer.START["pissa"])
    asked = {"base": base, "init": second.init, "residual": pissa_trained.residual}
    breaks(second.adapter, "init", "is not", "the logits differ by", **asked)
    breaks(pissa_trained.adapter, "init", "--residual", base=base, init=pissa_trained.init)


@pytest.mark.parametrize("quant", ["none", "nf4"])
def test_a_decomposed_model(base, quant, tmp_path, results, capsys):
    out, words = tmp_path / "out", ("--quant", quant, "--rank", "4", "--scratch", tmp_path / "kept")
    pissa("decompose", base["path"], *words, "--out", out)
    assert all(arrow.state == OK for arrow in walked(out, base=base).arrows), walked(out, base=base).arrows
    other = fetch_model({"path": str(results.parent / "model")})
    breaks(out, "load", "another revision", base=other | {"fingerprint": "0" * 64})
    retold(out / "model.safetensors", lambda t: t | {key: t[key] * 1.001 for key in t if "1.mlp.up_proj" in key})
    breaks(out, "init", "1.mlp.up_proj", "misses by", base=base)
    flip(out / "pissa_init/adapter_model.safetensors")
    breaks(out, "save", "changed since", base=base)


def test_a_start_alone(own, base):
    assert set(states(own[1], base=base).values()) == {OK}
    flip(own[1] / "factors.safetensors")
    breaks(own[1], "save", "changed after", base=base)


def test_what_has_no_arrows_is_refused(base, pissa_trained, results, tmp_path):
    says(lambda: pissa("verify", tmp_path / "none"), "no such folder")
    says(lambda: pissa("verify", pissa_trained.adapter), "--base MODEL is needed")
    says(lambda: pissa("verify", base["path"], "--base", base["path"]), "a whole model")
    cell = results / "cells/tiny/rows/full"
    says(lambda: pissa("verify", cell, "--residual", tmp_path), "--residual", "needs none")
