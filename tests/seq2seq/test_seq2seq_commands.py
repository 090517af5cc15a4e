"""Encoder-decoders leave and enter by the commands as causal models do: each form is loaded by its card's class."""

import shutil

import pytest
from commands import pissa
from encoders import TARGETS
from helpers import Run
from peft import PeftModel
from transformers import AutoModelForSeq2SeqLM

from pissa_repro.adapters.info import examine
from pissa_repro.model.checks import logits, relative_difference
from pissa_repro.model.load import load_base
from pissa_repro.runtime import paths

PROMPTS = [[5, 9, 40, 17, 1], [60, 2, 33, 1]]


def whole(folder):
    return AutoModelForSeq2SeqLM.from_pretrained(folder).eval()


def names_its_class(folder) -> bool:
    card = (folder / "README.md").read_text(encoding="utf-8")
    return "AutoModelForSeq2SeqLM.from_pretrained" in card and "AutoModelForCausalLM" not in card


@pytest.mark.parametrize(("kind", "quant"), [("gated", "nf4"), ("bart", "none")])
def test_every_form_of_a_cell_is_the_trained_model(tmp_path, models, tiny_rows, kind, quant):
    """The commands compare the logits themselves, too."""
    targets = TARGETS[kind]
    run = Run(tmp_path / "run", models[kind], tiny_rows, "pissa", quant, target_modules=targets, steps=3)
    run.init()
    run.train()
    cell, results = tmp_path / "results/cells/tiny/rows/cell", tmp_path / "results"
    shutil.copytree(run.folder, cell)
    shutil.copytree(run.start, results / "init/tiny/start")
    paths.model("tiny", results).parent.mkdir(parents=True)
    shutil.copy(run.model, paths.model("tiny", results))
    wanted = run.merged(PROMPTS).logits
    more = ("--base", "trained") if quant != "none" else ()
    pissa("export", cell, "--as", "merged", "--out", tmp_path / "merged", *more)
    assert relative_difference(logits(whole(tmp_path / "merged"), PROMPTS), wanted) < 1e-5
    assert names_its_class(tmp_path / "merged")
    pissa("export", cell, "--as", "residual", "--out", tmp_path / "residual")
    wrapped = PeftModel.from_pretrained(whole(tmp_path / "residual"), tmp_path / "residual/trained").eval()
    assert relative_difference(logits(wrapped, PROMPTS), wanted) < 1e-5 and names_its_class(tmp_path / "residual")
    if quant == "none":
        pissa("export", cell, "--as", "lora", "--out", tmp_path / "lora")
        wrapped = PeftModel.from_pretrained(whole(models[kind]), tmp_path / "lora").eval()
        assert relative_difference(logits(wrapped, PROMPTS), wanted) < 1e-5 and names_its_class(tmp_path / "lora")


def test_a_decomposition_and_its_adapter_are_the_model(tmp_path, models):
    pissa("decompose", models["t5"], "--method", "pissa", "--rank", 4, "--out", tmp_path / "out")
    again = PeftModel.from_pretrained(whole(tmp_path / "out"), tmp_path / "out/pissa_init")
    wanted = logits(load_base(models["t5"]).eval(), PROMPTS)
    assert relative_difference(logits(again.eval(), PROMPTS), wanted) < 1e-5
    assert again.peft_config["default"].task_type == "SEQ_2_SEQ_LM" and names_its_class(tmp_path / "out")
    for folder in (models["t5"], tmp_path / "out"):
        assert "AutoModelForSeq2SeqLM.from_pretrained" in examine(folder).loading
