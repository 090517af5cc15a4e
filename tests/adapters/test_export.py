"""A cell in the forms that other tools load, each as stock transformers and PEFT load it."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from commands import pissa
from helpers import Run
from peer import plain
from peft import PeftModel
from safetensors.torch import load_file
from stage import says
from transformers import AutoModelForCausalLM, AutoTokenizer

from pissa_repro.adapters.cells import read as read_cell
from pissa_repro.model.checks import logits, relative_difference
from pissa_repro.runtime import paths
from pissa_repro.runtime.record import read_json, write_json

PROMPTS = [[3, 40, 17, 9], [250, 8, 77]]
PATTERNS = {"rank_pattern": {"q_proj": 2, ".*1.mlp.*": 3}, "alpha_pattern": {"v_proj": 2}, "use_rslora": True}
KINDS = {
    "pissa": ("pissa", "none", {}),
    "rslora": ("pissa", "none", {"rslora": True, "alpha": 3.0}),
    "lora": ("lora", "none", {}),
    "patterns": ("pissa", "none", {"lora": PATTERNS}),
    "norms": ("pissa", "nf4", {"lora": {"modules_to_save": ["norm"]}}),
    "dora": ("pissa", "none", {"lora": {"use_dora": True}}),
    "qpissa": ("pissa", "nf4", {"options": {"alternations": 2}}),
    "loftq": ("loftq", "nf4", {"options": {"alternations": 2}}),
    "loftq once": ("loftq", "nf4", {}),
    "qlora": ("lora", "nf4", {}),
    "full": ("full", "none", {}),
}


@pytest.fixture(scope="module")
def cells(tmp_path_factory, tiny_model, tiny_rows):
    """Every kind of cell in one results folder: {kind: (run, its folder below results/cells)}."""
    made, results = {}, tmp_path_factory.mktemp("sweep") / "results"
    for kind, (method, quant, changes) in KINDS.items():
        run = Run(tmp_path_factory.mktemp(kind), tiny_model, tiny_rows, method, quant, steps=3, learning_rate=5e-3,
                  **changes)  # fmt: skip
        run.init()
        run.train()
        home = results / "cells/tiny/rows" / kind
        shutil.copytree(run.folder, home)
        if run.init_spec:
            shutil.copytree(run.start, results / "init/tiny" / kind)
        paths.model("tiny", results).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(run.model, paths.model("tiny", results))
        made[kind] = run, home
    return made


def far(model, run):
    return relative_difference(logits(model.eval(), PROMPTS), run.merged(PROMPTS).logits)


def words(form, folder):
    return ("--as", form, "--out", folder)


@pytest.mark.parametrize("kind", ["pissa", "rslora", "lora", "patterns"])
def test_a_lora_is_right_on_the_untouched_model(cells, kind, tiny_model, tmp_path, capsys):
    run, home = cells[kind]
    pissa("export", home, *words("lora", tmp_path / "out"))
    assert far(PeftModel.from_pretrained(plain(tiny_model), tmp_path / "out"), run) < 1e-5
    assert "of the trained cell's" in capsys.readouterr().out


@pytest.mark.parametrize(
    "kind", ["pissa", "rslora", "lora", "patterns", "dora", "qpissa", "loftq", "loftq once", "qlora"]
)
def test_one_model_and_a_residual_are_right_for_every_cell(cells, kind, tmp_path):
    """transformers loads the one, PEFT the adapter on the other; the start's is there too."""
    run, home = cells[kind]
    base = ("--base", "trained") if run.cell.quant != "none" else ()
    pissa("export", home, *words("merged", tmp_path / "one"), *base)
    assert far(AutoModelForCausalLM.from_pretrained(tmp_path / "one", dtype=torch.float32), run) < 1e-5
    assert AutoTokenizer.from_pretrained(tmp_path / "one")("3 + 4").input_ids
    pissa("export", home, *words("residual", tmp_path / "two"))
    residual = AutoModelForCausalLM.from_pretrained(tmp_path / "two", dtype=torch.float32)
    assert far(PeftModel.from_pretrained(residual, tmp_path / "two", subfolder="trained"), run) < 1e-5
    made, stored = (
        load_file(folder / name)
        for folder, name in (
            (tmp_path / "two" / f"{run.init_spec['method']}_init", "adapter_model.safetensors"),
            (run.start, "factors.safetensors"),
        )
    )
    assert made.keys() == stored.keys() and all(torch.equal(made[key], stored[key]) for key in made)
    texts = [path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.json")]
    assert not any(str(home.parents[3]) in text for text in texts)


def test_what_trained_whole_goes_with_the_residual(cells, tmp_path):
    """The start holds the factors alone."""
    run, home = cells["norms"]
    pissa("export", home, *words("residual", tmp_path / "out"))
    residual = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    assert far(PeftModel.from_pretrained(residual, tmp_path / "out", subfolder="trained"), run) < 1e-5
    assert read_json(tmp_path / "out/pissa_init/adapter_config.json")["modules_to_save"] is None


def test_a_lower_rank_of_modules_with_their_own(cells, tiny_model, tmp_path):
    """At the largest rank of a change nothing is left out, and smaller ones are filled up."""
    run, home = cells["patterns"]
    pissa("export", home, *words("lora", tmp_path / "out"), "--rank", "8")
    assert far(PeftModel.from_pretrained(plain(tiny_model), tmp_path / "out"), run) < 1e-5


def test_the_residual_and_its_start_go_through_convert(cells, tiny_model, tmp_path):
    """The same LoRA as the cell's own."""
    run, home = cells["pissa"]
    pissa("export", home, *words("residual", tmp_path / "out"))
    folders = ("--init", tmp_path / "out/pissa_init", "--out", tmp_path / "lora")
    pissa("convert", tmp_path / "out/trained", *folders)
    pissa("export", home, *words("peft-init", tmp_path / "start"))
    pissa("convert", tmp_path / "out/trained", "--init", tmp_path / "start", "--out", tmp_path / "again")
    wanted = load_file(run.trained / "adapter_model.safetensors")
    for name in ("lora", "again"):
        found = load_file(tmp_path / name / "adapter_model.safetensors")
        assert found.keys() == wanted.keys() and all(torch.equal(found[key], wanted[key]) for key in found)


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_a_lower_rank_is_the_best_one(cells, rank, tiny_model, tmp_path, capsys):
    """Of every module's change, by the singular values; the loss that is told is the measured one."""
    run, home = cells["pissa"]
    pissa("export", home, *words("lora", tmp_path / "out"), "--rank", str(rank))
    whole, made = (load_file(folder / "adapter_model.safetensors") for folder in (run.trained, tmp_path / "out"))
    left = total = 0.0
    for key in (key for key in made if "lora_A" in key):
        change, small = (
            tensors[key.replace("lora_A", "lora_B")].double() @ tensors[key].double() for tensors in (whole, made)
        )
        change *= run.init_spec["alpha"] / run.cell.rank
        values = torch.linalg.svdvals(change)
        assert torch.linalg.svdvals(small)[:rank].tolist() == pytest.approx(values[:rank].tolist(), rel=1e-4)
        assert (change - small).norm().item() ** 2 == pytest.approx((values[rank:] ** 2).sum().item(), abs=1e-9)
        left, total = left + (change - small).norm().item() ** 2, total + change.norm().item() ** 2
    told = float(capsys.readouterr().out.split("leaves out ")[1].split(" %")[0])
    assert told == pytest.approx(100 * (left / total) ** 0.5, rel=0.06, abs=1e-4)
    assert read_json(tmp_path / "out/adapter_config.json")["r"] == rank
    PeftModel.from_pretrained(plain(tiny_model), tmp_path / "out")


def test_a_quantized_cell_on_the_model_in_full_precision_says_what_is_lost(cells, tiny_model, tmp_path, capsys):
    """Pitfall 7: a converted QPiSSA is not the trained model."""
    run, home = cells["qpissa"]
    says(lambda: pissa("export", home, *words("lora", tmp_path / "out")), "quantized to nf4", "--base bf16")
    says(
        lambda: pissa("export", home, *words("lora", tmp_path / "out"), "--base", "trained"), "--as residual", "no tool"
    )
    for form in ("lora", "merged"):
        pissa("export", home, *words(form, tmp_path / form), "--base", "bf16")
        said = capsys.readouterr().out
        assert "is lost" in said and "is lost" in (tmp_path / form / "README.md").read_text(encoding="utf-8")
        told = float(said.split("within ")[1].split(" of")[0])
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    assert told > 1e-3 and far(merged, run) > 1e-3
    wrapped = PeftModel.from_pretrained(plain(tiny_model), tmp_path / "lora").eval()
    assert relative_difference(logits(wrapped, PROMPTS), logits(merged, PROMPTS)) < 1e-5


@pytest.mark.parametrize("kind", ["qpissa", "loftq"])
def test_what_belongs_on_a_quantized_residual_says_so(cells, kind, tmp_path, capsys):
    """Pitfall 7: by its tensors alone the trained adapter could be a plain LoRA."""
    run, home = cells[kind]
    pissa("export", home, *words("residual", tmp_path / "out"))
    init = tmp_path / "out" / f"{run.init_spec['method']}_init"
    says(lambda: pissa("convert", tmp_path / "out/trained", "--init", init, "--out", tmp_path / "lora"), "quantized")
    pissa("export", home, *words("peft-init", tmp_path / "start"))
    says(
        lambda: pissa("convert", tmp_path / "out/trained", "--init", tmp_path / "start", "--out", tmp_path / "lora"),
        "quantized",
    )
    shutil.copytree(tmp_path / "out/trained", tmp_path / "other")
    two = (tmp_path / "out/trained", tmp_path / "other", "--weights", "1", "--weights", "1", "--how", "cat")
    says(lambda: pissa("combine", *two, "--out", tmp_path / "both"), "residual")
    capsys.readouterr()
    for folder in (tmp_path / "out/trained", init):
        pissa("info", folder)
        assert "on the residual nf4(W" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["qlora", "loftq once"])
def test_a_lora_on_a_base_that_is_quantized_alike(cells, kind, tmp_path, capsys):
    """LoftQ with T = 1 takes nothing out of its base either, though its start is not zero."""
    run, home = cells[kind]
    pissa("export", home, *words("lora", tmp_path / "out"), "--base", "trained")
    assert "which your tool makes: not compared" in capsys.readouterr().out
    found, stored = (
        load_file(tmp_path / "out/adapter_model.safetensors"),
        load_file(run.factors / "factors.safetensors"),
    )
    assert found.keys() == stored.keys() and all(torch.equal(found[key], stored[key]) for key in found)


def test_a_start_of_another_scaling_is_refused(cells, tmp_path):
    """Its factors would be stacked under the trained ones' scaling."""
    from pissa_repro.adapters.trained import write_plain

    left = read_cell(cells["pissa"][1]).left
    start = shutil.copytree(left.start, tmp_path / "start")
    fields = read_json(start / "factors.json")
    write_json(start / "factors.json", fields | {"lora_alpha": 2 * fields["lora_alpha"]})
    says(lambda: write_plain(replace(left, start=start), tmp_path / "out"), "alpha", "not of one training")
    assert not (tmp_path / "out").exists()


def test_a_dtype_is_kept_to(cells, tmp_path):
    _, home = cells["pissa"]
    pissa("export", home, *words("merged", tmp_path / "out"), "--dtype", "bfloat16")
    assert {t.dtype for t in load_file(tmp_path / "out/model.safetensors").values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "out/config.json").read_text(encoding="utf-8"))["dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("kind", "given", "said"),
    [
        ("full", words("lora", "out"), ["fully fine-tuned", "whole model already"]),
        ("dora", words("lora", "out"), ["DoRA", "--as merged, or --as residual"]),
        ("norms", (*words("merged", "out"), "--base", "trained"), ["5 parameters of the base", "--as residual"]),
        ("pissa", words("lorra", "out"), ["--as", "lorra", "lora"]),
        ("pissa", (*words("lora", "out"), "--dtype", "bfloat16"), ["--dtype", "factors stay float32"]),
        ("pissa", (*words("merged", "out"), "--dtype", "float8"), ["--dtype", "float8", "bfloat16"]),
        ("pissa", (*words("merged", "out"), "--rank", "3"), ["--rank 3", "--as lora alone"]),
        ("pissa", (*words("lora", "out"), "--rank", "9"), ["--rank 9", "1 to 8"]),
        ("qlora", (*words("merged", "out"), "--base", "fp32"), ["--base", "fp32", "trained"]),
        ("qlora", (*words("residual", "out"), "--base", "bf16"), ["--base bf16", "quantized base alone"]),
        ("qlora", (*words("peft-init", "out"), "--base", "trained"), ["--base trained", "lora and merged"]),
        ("pissa", (*words("merged", "out"), "--base", "bf16"), ["--base bf16", "quantized base alone"]),
        ("pissa", words("merged", "there"), ["exists already"]),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(cells, kind, given, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    says(lambda: pissa("export", cells[kind][1], *given), *said)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_form_that_is_not_the_cell_is_not_written(cells, tmp_path, monkeypatch):
    """The gate: logits of what others would load."""
    from pissa_repro.adapters.parts import Parts

    right = Parts.merged
    monkeypatch.setattr(Parts, "merged", lambda self, module, weight: right(self, module, weight) * 1.01)
    says(
        lambda: pissa("export", cells["pissa"][1], *words("merged", tmp_path / "out")), "differ", "Nothing was written"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kept", [0.0, 0.45])
def test_weights_that_lost_the_training_are_no_rounding(cells, kept, tmp_path, monkeypatch):
    """The gate of weights in bfloat16, for a training that moves the logits by little."""
    from pissa_repro.adapters.parts import Parts

    right = Parts.merged

    def lost(self, module, weight):
        return weight + kept * (right(self, module, weight.clone()) - weight)

    monkeypatch.setattr(Parts, "merged", lost)
    asked = (*words("merged", tmp_path / "out"), "--dtype", "bfloat16")
    says(lambda: pissa("export", cells["pissa"][1], *asked), "that the training moved", "Nothing was written")
    assert not list(tmp_path.iterdir())


def test_a_lora_that_lost_the_training_is_advised_a_form_that_takes_a_dtype(cells, tmp_path, monkeypatch):
    monkeypatch.setattr("pissa_repro.adapters.export.LOST", 0.0)
    lora = words("lora", tmp_path / "out")
    says(lambda: pissa("export", cells["pissa"][1], *lora), "that small, --as residual --dtype float32 (")
    merged = words("merged", tmp_path / "out")
    says(lambda: pissa("export", cells["pissa"][1], *merged), "that small, --dtype float32 may hold it")
