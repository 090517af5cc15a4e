"""What a cell with a core, frozen parts or own ranks gives away: the plain LoRA (A, B C), as everybody loads it."""

import shutil

import pytest
from commands import pissa
from decomposed import decompose, pair
from helpers import Run
from peer import loaded, logits, plain
from plugged import STARTS, plugged, text
from safetensors.torch import load_file
from stage import says

from pissa_repro.adapters import verify
from pissa_repro.adapters.arrows import NOT, OK
from pissa_repro.model.checks import relative_difference
from pissa_repro.runtime import paths
from pissa_repro.runtime.record import read_json

RANKS = {"square": 4, "diagonal": 8, "aside": 6}  # of the LoRA; 2 k where a start was taken out
CELLS = {**{name: (name, "none", {}) for name in RANKS},
         "banded": ("banded", "none", {}),
         "ranked": ("ranked", "none", {"rslora": True, "alpha": 3.0}),
         "quantized": ("square", "nf4", {})}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def thrown_away(tmp_path_factory):
    with plugged(tmp_path_factory.mktemp("methods"), {name: text(name) for name in STARTS}):
        yield


@pytest.fixture(scope="module")
def cells(tmp_path_factory, tiny_model, tiny_rows):
    """A folder of every cell in one results folder."""
    results, made = tmp_path_factory.mktemp("sweep") / "results", {}
    for kind, (method, quant, changes) in CELLS.items():
        home = results / "cells/tiny/rows" / kind
        run = Run(home, tiny_model, tiny_rows, method, quant, steps=3, learning_rate=5e-3, **{"alpha": 8, **changes})
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
    plain = kind not in ("banded", "quantized")  # as a LoRA, full bases are larger than the weights
    assert states["convert"] == (OK if plain else NOT) and states["export"] == states["merge"] == OK
    assert (cells[kind] / "trained/adapter_config.json").is_file() == plain


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
