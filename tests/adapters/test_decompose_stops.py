"""Decompositions that are stopped and go on, and those that are refused before the work."""

import json
import shutil

import pytest
from decomposed import decompose, files
from helpers import load_json
from stage import says

from pissa_repro.adapters.folder import CONFIG


@pytest.fixture
def stopping(monkeypatch):
    """Modules whose start was made, and a number of them after which the machine fails."""
    from pissa_repro.starts import make

    honest, made, limit = make.start_modules, [], {}

    def starts(name, weight, specs, **more):
        if len(made) == limit.get("at"):
            raise RuntimeError("power cut")
        made.append(name)
        yield from honest(name, weight, specs, **more)

    monkeypatch.setattr(make, "start_modules", starts)
    return made, limit


def test_stopped_between_files_it_goes_on_and_gives_the_same_bytes(sharded, tmp_path, stopping):
    made, limit = stopping
    uninterrupted = files(decompose(sharded, tmp_path / "whole"))
    wanted = list(made)
    made.clear()
    limit["at"] = 9
    with pytest.raises(RuntimeError):
        decompose(sharded, tmp_path / "out")
    first = list(made)
    assert not (tmp_path / "out").exists()
    made.clear()
    del limit["at"]
    assert files(decompose(sharded, tmp_path / "out")) == uninterrupted
    assert 0 < len(made) < len(wanted) and len(set(first) & set(made)) <= 3  # those of the file that was not whole
    assert set(first) | set(made) == set(wanted)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "out", "whole"]


def test_another_decomposition_does_not_go_on_where_this_one_stopped(sharded, tmp_path, stopping):
    made, limit = stopping
    limit["at"] = 9
    with pytest.raises(RuntimeError):
        decompose(sharded, tmp_path / "out")
    del limit["at"]
    made.clear()
    other = decompose(sharded, tmp_path / "out", "--alpha", 2)
    assert len(made) == 14 and load_json(other / "pissa_init" / CONFIG)["lora_alpha"] == 2


def test_what_cannot_be_is_refused_before_the_work(residual, tiny_model, tmp_path, monkeypatch):
    out = tmp_path / "out"
    (tmp_path / "there").mkdir()
    says(lambda: decompose(tiny_model, tmp_path / "there"), "--out", "there", "exists already")
    says(lambda: decompose(tiny_model, out, "--rank", 65), "rank 65", "from 1 to 64")
    says(lambda: decompose(tiny_model, out, "--dtype", "float8"), "--dtype", "float8", "bfloat16")
    says(lambda: decompose(tiny_model, out, "--base", tiny_model), "--base", "hub id")
    monkeypatch.chdir(tmp_path)  # where "there" is a folder, though it has the form of a hub id
    says(lambda: decompose(tiny_model, out, "--base", "there"), "--base there", "hub id")
    says(lambda: decompose(tiny_model, out, "--factors", "--dtype", "float16"), "--factors", "--dtype")
    says(lambda: decompose(residual, out), "residual", "base model")
    quantized = shutil.copytree(tiny_model, tmp_path / "quantized")
    config = load_json(quantized / "config.json") | {"quantization_config": {"quant_method": "gptq"}}
    (quantized / "config.json").write_text(json.dumps(config), encoding="utf-8")
    says(lambda: decompose(quantized, out), "quantized already", "full-precision")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 0, 9))
    says(lambda: decompose(tiny_model, out), "--out", "bytes", "9 are free")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["quantized", "there"]


def test_a_head_that_is_the_embedding_too_is_not_taken_apart(tiny_model, tmp_path):
    source = shutil.copytree(tiny_model, tmp_path / "tied")
    config = load_json(source / "config.json") | {"tie_word_embeddings": True}
    (source / "config.json").write_text(json.dumps(config), encoding="utf-8")
    target = ("--target-module", "lm_head")
    says(lambda: decompose(source, tmp_path / "out", *target), "lm_head", "shares its weight with the embedding")


def test_a_second_process_is_told_of_the_first(tiny_model, tmp_path):
    from pissa_repro.runtime.lock import alone

    with alone(tmp_path / "out", "writing"):
        says(lambda: decompose(tiny_model, tmp_path / "out"), "another process is writing", "pid")
