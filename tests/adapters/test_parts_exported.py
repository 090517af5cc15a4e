"""What a cell with a core, frozen parts or own ranks gives away: the plain LoRA (A, B C), as everybody loads it."""

import shutil

import pytest
from commands import pissa
from decomposed import decompose, pair
from helpers import Run
from peer import loaded, logits, plain
from safetensors.torch import load_file
from stage import says

from pissa_repro.adapters import verify
from pissa_repro.adapters.arrows import NOT, OK
from pissa_repro.model.checks import relative_difference
from pissa_repro.runtime import paths
from pissa_repro.runtime.record import read_json
from pissa_repro.sources.fetched import fetch_model

RANKS = {"square": 4, "diagonal": 8, "aside": 6}  # of the LoRA; 2 k where a start was taken out
pytestmark = pytest.mark.usefixtures("known_starts")
CELLS = {**{name: (name, "none", {}) for name in RANKS},
         "banded": ("banded", "none", {}),
         "moving": ("moving", "none", {"learning_rate": 0.3}),
         "off zero": ("lora_xs", "none", {"options": {"sigma": 0.05}}),
         "off zero, quantized": ("moving", "nf4", {}),
         "beside": ("square", "none", {"lora": {"modules_to_save": ["lm_head"]}}),
         "ranked": ("ranked", "none", {"rslora": True, "alpha": 3.0}),
         "quantized": ("square", "nf4", {})}  # fmt: skip


@pytest.fixture(scope="module")
def cells(tmp_path_factory, tiny_model, tiny_rows, known_starts):
    """A folder of every cell in one results folder."""
    results, made = tmp_path_factory.mktemp("sweep") / "results", {}
    for kind, (method, quant, changes) in CELLS.items():
        home = results / "cells/tiny/rows" / kind
        changes = {"alpha": 8, "learning_rate": 5e-3, **changes}
        run = Run(home, tiny_model, tiny_rows, method, quant, steps=3, **changes)
        run.init()
        run.train()
        shutil.copytree(run.start, results / "init/tiny" / kind)
        paths.model("tiny", results).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(run.model, paths.model("tiny", results))
        made[kind] = home
    return made


@pytest.mark.parametrize("kind", CELLS)
def test_no_arrow_of_a_cell_breaks(cells, kind):
    """Start, training, merging, every export, conversion and back."""
    found = verify.verify(verify.Asked(cells[kind]))
    states = {arrow.name: arrow.state for arrow in found.arrows}
    assert found.broken is None, found.broken
    plain = kind != "banded" and CELLS[kind][1] == "none"  # as a LoRA, full bases are larger than the weights
    assert states["convert"] == (OK if plain else NOT) and states["export"] == states["merge"] == OK
    assert (cells[kind] / "trained/adapter_config.json").is_file() == plain


def test_a_form_without_a_place_for_what_was_trained_is_not_tried(cells):
    """The other forms are."""
    said = {arrow.name: arrow.said for arrow in verify.verify(verify.Asked(cells["beside"])).arrows}["export"]
    assert f"merged: {NOT}" in said and "lora: Its logits" in said and "residual: Its logits" in said


@pytest.mark.parametrize("kind", ["moving", "off zero", "off zero, quantized"])
def test_a_start_that_was_not_taken_out_is_not_subtracted(cells, kind, tiny_model, tmp_path, capsys):
    """A, B of the start are not zero. The residual is W, or quantize(W), and what was trained is the LoRA on it."""
    method, quant, _ = CELLS[kind]
    residual, on = tmp_path / "residual", [] if quant == "none" else ["--base", "trained"]
    pissa("export", cells[kind], "--as", "residual", "--out", residual)
    pissa("export", cells[kind], "--as", "merged", *on, "--out", tmp_path / "merged")
    raw, init = residual / "trained", residual / f"{method}_init"
    pissa("convert", raw, "--init", init, "--out", tmp_path / "lora")
    base, merged = tiny_model if quant == "none" else residual, logits(plain(tmp_path / "merged"))
    assert relative_difference(loaded(base, tmp_path / "lora"), merged) < 1e-5
    assert relative_difference(logits(plain(base)), merged) > 1e-3 < relative_difference(loaded(base, init), merged)
    says(lambda: pissa("convert", tmp_path / "lora", "--init", init, "--to", "pissa", "--out", tmp_path / "no"), "rank")
    pissa("adopt", raw, "--init", init, "--base", tiny_model, "--quant", quant)
    assert "Its start takes nothing out of the base" in capsys.readouterr().out
    asked = verify.Asked(raw, fetch_model({"path": str(tiny_model)}), init, residual)
    found = verify.verify(asked)
    states = {arrow.name: arrow.state for arrow in found.arrows}
    assert found.broken is None, found.broken
    assert states.pop("serve") == NOT and states.pop("convert") == (OK if quant == "none" else NOT)
    assert set(states.values()) == {OK}


def test_an_adapter_whose_start_was_taken_out_is_not_copied(cells, tmp_path):
    """Given the start of another training, which takes nothing out: our record beside the adapter tells."""
    pissa("export", cells["moving"], "--as", "peft-init", "--out", tmp_path / "init")
    pissa("export", cells["diagonal"], "--as", "residual", "--out", tmp_path / "residual")
    words = tmp_path / "residual/trained", "--init", tmp_path / "init", "--out", tmp_path / "out"
    says(lambda: pissa("convert", *words), "started as diagonal", "takes nothing out", "not of one training")


@pytest.mark.parametrize("kind", RANKS)
def test_the_trained_folder_is_a_lora_of_the_rank_of_its_change(cells, kind):
    config = read_json(cells[kind] / "trained/adapter_config.json")
    tensors = load_file(cells[kind] / "trained/adapter_model.safetensors")
    assert config["r"] == RANKS[kind] and {key.rpartition(".lora_")[2] for key in tensors} == {"A.weight", "B.weight"}
    assert {len(tensor) for key, tensor in tensors.items() if ".lora_A." in key} == {RANKS[kind]}
    assert config["lora_alpha"] / config["r"] == 2


@pytest.mark.parametrize("kind", ["square", "banded"])
def test_a_merged_export_and_one_of_a_low_rank_load(cells, kind, tiny_model, tmp_path):
    pissa("export", cells[kind], "--as", "merged", "--out", tmp_path / "merged")
    pissa("export", cells[kind], "--as", "lora", "--rank", 4, "--out", tmp_path / "lora")
    merged, untouched = logits(plain(tmp_path / "merged")), logits(plain(tiny_model))
    close = relative_difference(loaded(tiny_model, tmp_path / "lora"), merged)
    assert close < 1e-5 if kind == "square" else close < relative_difference(untouched, merged)


@pytest.mark.parametrize(("kind", "said"), [("square", "What trains: core."), ("ranked", "rank 2, 8;")])
def test_info_says_what_trains_and_the_ranks(cells, kind, said, capsys):
    pissa("info", cells[kind] / "trained/factors")
    assert said in capsys.readouterr().out


def test_a_residual_of_parts_that_others_do_not_train_is_refused(tiny_model, tmp_path):
    words = "--method", "square"
    says(lambda: decompose(tiny_model, tmp_path / "out", *words), "--method square: core train", "--factors")
    assert not (tmp_path / "out").exists()
    decompose(tiny_model, tmp_path / "factors", *words, "--factors")


def test_a_residual_with_own_ranks_is_the_model(tiny_model, tmp_path):
    out = decompose(tiny_model, tmp_path / "out", "--method", "ranked", "--alpha", 8)
    assert relative_difference(logits(pair(out, "ranked_init")), logits(plain(tiny_model))) < 1e-5
