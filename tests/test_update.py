"""The size of the update that a training's record holds: the merged weights after it, less those at its start."""

import pytest
import torch
from helpers import Run
from stage import LLAMA

from pissa_repro.model import factors
from pissa_repro.model.adapter import attach
from pissa_repro.model.base import set_base
from pissa_repro.model.load import load_base
from pissa_repro.model.update import mean_update
from pissa_repro.runtime.record import read_json
from pissa_repro.sources.fetched import fetch_model

PROMPTS = [list(range(3, 20))]
CELLS = [("full", "none", {}), ("svft", "none", {}), ("pissa", "nf4", {}), ("lora", "nf4", {"use_dora": True})]


def weights(model) -> dict[str, torch.Tensor]:
    named = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    return {name: one for name, one in named.items() if name.split(".")[-2] in LLAMA}


def start(run: Run) -> dict[str, torch.Tensor]:
    """The weights that the training started from."""
    base = load_base(read_json(run.model)["path"])
    if run.init_spec is None:
        return weights(base)
    set_base(base, factors.load(run.start, read_json(run.model)), run.spec["quant"], "float32", pack=False)
    return weights(attach(base, run.start, run.spec["lora"]).merge_and_unload())


@pytest.mark.parametrize(("method", "quant", "lora"), CELLS)
def test_it_is_what_merging_shows(tmp_path, tiny_model, tiny_rows, method, quant, lora):
    """On a quantized base too, where no error of the quantization is in it; DoRA's magnitudes are."""
    run = Run(tmp_path, tiny_model, tiny_rows, method, quant, lora=lora, steps=3, learning_rate=5e-3)
    run.init()
    record = run.train()
    before, untouched = start(run), weights(load_base(tiny_model))
    after = weights(run.merged(PROMPTS).model)
    sizes = [((after[name] - before[name]).norm() / untouched[name].norm()).item() for name in untouched]
    assert len(sizes) == 2 * len(LLAMA) and min(sizes) > 1e-5
    assert record["update"] == pytest.approx(sum(sizes) / len(sizes), rel=1e-3)


def test_files_with_other_names_than_the_model_have_no_size(tiny_model, tiny_gpt2):
    """Where transformers renames what it reads, a training must not end in an error for want of a number."""
    assert mean_update(load_base(tiny_model), fetch_model({"path": str(tiny_gpt2["saved"])}), "none", None) is None


@pytest.mark.parametrize(("method", "naming", "lora"), [("full", "hub", {}), ("lora", "saved", {"use_dora": True})])
def test_layers_that_store_their_weight_transposed(tmp_path, tiny_gpt2, tiny_rows, method, naming, lora):
    """GPT-2, under both namings of its files: twice the rate moves more, and both move little."""
    sizes, targets = {}, ["c_attn", "c_fc"]
    for rate in (1e-4, 1e-3):
        run = Run(
            tmp_path / f"{rate}", tiny_gpt2[naming], tiny_rows, method, lora=lora, steps=2, learning_rate=rate,
            target_modules=targets, warmup_ratio=0, schedule="constant",
        )  # fmt: skip
        run.init()
        sizes[rate] = run.train()["update"]
    assert 0 < 2 * sizes[1e-4] < sizes[1e-3] < 1
