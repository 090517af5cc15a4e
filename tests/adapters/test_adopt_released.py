"""Residuals that were released with their start, and what was trained on them: plain, quantized, GPT-2's."""

import pytest
import torch
from commands import pissa
from helpers import Run, scored_rows
from peer import TOKENS, plain, train
from peft import PeftModel
from stage import LLAMA, says
from taken import PROMPTS, Taken, last, scored_model

from pissa_repro.runtime.record import read_lines


def released(model, out, quant):
    """A residual and its start, by the command."""
    words = ("--method", "pissa", "--quant", quant, "--rank", "4", "--dtype", "float32")
    pissa("decompose", model, *words, "--scratch", out.parent / "kept", "--out", out)
    return out


def trained_on(residual, out):
    """The model that PEFT trains on a residual for two steps, and saves."""
    model = PeftModel.from_pretrained(plain(residual), residual / "pissa_init", is_trainable=True)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(2):
        model.train()(input_ids=TOKENS, labels=TOKENS).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(out)
    return model.eval()


@pytest.mark.parametrize("quant", ["none", "nf4"])
def test_what_was_trained_on_a_released_residual_is_scored_as_it_was(tiny_model, tiny_rows, tmp_path, quant):
    residual = released(tiny_model, tmp_path / "residual", quant)
    model = trained_on(residual, tmp_path / "trained")
    given = {"adapter": tmp_path / "trained", "residual": residual}
    taken = Taken(tmp_path / "taken", tiny_model, tiny_rows, quant=quant, **given)
    record = taken.adopt()
    found = scored_model(taken)
    assert (found.logits - last(model)).abs().max() < 1e-4 * found.logits.abs().max()
    assert "The residual is the base less the start" in " ".join(record["notes"])
    assert record["trained_as"] == (None if quant == "none" else "nf4")
    if quant == "nf4":
        says(Taken(tmp_path / "on plain", tiny_model, tiny_rows, **given).adopt, "(nf4)", "`quant: nf4`")


@pytest.mark.parametrize("quant", ["none", "nf4"])
def test_a_cell_that_is_exported_and_taken_in_again_has_the_same_answers(tiny_model, tiny_rows, tmp_path, quant):
    """As a residual with its start and the trained adapter: PiSSA, and QPiSSA, on its own quantized base."""
    run = Run(tmp_path / "run", tiny_model, tiny_rows, "pissa", quant, learning_rate=5e-3, target_modules=LLAMA)
    run.init()
    run.train()
    words = ("--as", "residual", "--init", run.start, "--model", run.model, "--no-check", "--dtype", "float32")
    pissa("export", run.folder, *words, "--out", tmp_path / "out")
    run.rows = scored_rows(tmp_path)
    ours = run.evaluate()
    given = {"adapter": tmp_path / "out/trained", "residual": tmp_path / "out"}
    taken = Taken(tmp_path / "taken", tiny_model, run.rows, quant=quant, **given)
    taken.adopt()
    theirs = taken.evaluate()
    assert theirs["metrics"] == ours["metrics"]
    assert read_lines(taken.files.samples("task")) == read_lines(run.folder / "task.samples.jsonl")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("naming", "start", "quant"), [("saved", True, "none"), ("hub", "pissa", "none"), ("hub", "pissa", "nf4")]
)
def test_gpt2_under_both_namings_of_its_files(tiny_gpt2, tiny_rows, tmp_path, naming, start, quant):
    """Its layers are stored transposed, and a hub's files name them without what PEFT has in front."""
    base = tiny_gpt2[naming]
    trained = train(base, tmp_path, rate=1e-2, target_modules=["c_attn", "c_fc"], init_lora_weights=start)
    given = {"adapter": trained.adapter, **({"init": trained.init} if start == "pissa" else {})}
    taken = Taken(tmp_path / "taken", base, tiny_rows, quant=quant, **given)
    taken.adopt()
    found = scored_model(taken).logits
    difference = (found - last(trained.model, PROMPTS)).abs().max() / found.abs().max()
    assert difference < 1e-4 if quant == "none" else 1e-3 < difference < 0.5
    if start == "pissa":
        says(Taken(tmp_path / "raw", base, tiny_rows, adapter=trained.adapter).adopt, "lies on a residual")
