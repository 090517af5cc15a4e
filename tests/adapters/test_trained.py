"""What a cell leaves for other people's tools: right where it loads, refused where it would be wrong."""

import warnings

import pytest
import torch
from commands import pissa
from helpers import Run, trained_and_scored
from peer import plain
from peft import AutoPeftModelForCausalLM, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from pissa_repro.adapters import cells
from pissa_repro.model import factors
from pissa_repro.model.checks import logits, relative_difference
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import read_json

PROMPTS = [[3, 40, 17, 9], [250, 8, 77]]


def trained(folder, model, rows, method, quant="none", **changes):
    run = Run(folder, model, rows, method, quant, steps=3, learning_rate=5e-3, **changes)
    run.init()
    run.train()
    return run


def card(run):
    return (run.trained / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("method", "times", "changes"),
    [
        ("lora", 1, {}),
        ("pissa", 2, {}),
        ("olora", 2, {}),
        ("milora", 2, {}),
        ("pissa", 2, {"alpha": 3.0, "rslora": True}),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_cell_on_a_plain_base_is_a_lora_on_the_untouched_model(
    tmp_path, tiny_model, tiny_rows, method, times, changes
):
    """Loaded as anybody would, without a warning."""
    run = trained(tmp_path / "run", tiny_model, tiny_rows, method, **changes)
    config = read_json(run.trained / "adapter_config.json")
    assert config["r"] == times * run.cell.rank and config["init_lora_weights"] is True
    assert config["base_model_name_or_path"] == "model", "the config's name of a local model"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wrapped = PeftModel.from_pretrained(plain(tiny_model), run.trained).eval()
    assert relative_difference(logits(wrapped, PROMPTS), run.merged(PROMPTS).logits) < 1e-5
    text = "".join(p.read_text(encoding="utf-8") for p in run.trained.rglob("*") if p.suffix in (".json", ".md"))
    assert str(tmp_path) not in text and str(tiny_model) not in text
    assert f"| final loss | {read_json(run.record)['final_loss']:.4f} |" in card(run)
    assert f"--max-lora-rank {8 if config['r'] <= 8 else 16}" in card(run)
    assert "# where no hub has model: the folder of that model" in card(run), "as written, the line asks a hub"


def test_the_modules_of_gpt2_have_the_names_of_the_model(tiny_gpt2, tiny_rows, tmp_path):
    """Pitfall 6: OLoRA on Conv1D, a square one too. The names of the hub's files lack a prefix that the model has."""
    targets = ["attn.c_attn", "attn.c_proj", "mlp.c_fc"]
    run = trained(tmp_path, tiny_gpt2["hub"], tiny_rows, "olora", target_modules=targets)
    wrapped = PeftModel.from_pretrained(plain(tiny_gpt2["saved"]), run.trained).eval()
    assert relative_difference(logits(wrapped, PROMPTS), run.merged(PROMPTS).logits) < 1e-5


@pytest.mark.parametrize(
    ("method", "quant", "changes", "word"),
    [
        ("pissa", "nf4", {"options": {"alternations": 2}}, "quantized to nf4"),
        ("loftq", "nf4", {"options": {"alternations": 2}}, "quantized to nf4"),
        ("lora", "nf4", {}, "quantized to nf4"),
        ("pissa", "none", {"lora": {"use_dora": True}}, "magnitudes"),
        ("pissa", "none", {"rank": 32}, "of the matrices themselves"),
    ],
)
def test_what_is_no_plain_lora_is_refused_by_others(tmp_path, tiny_model, tiny_rows, method, quant, changes, word):
    """Pitfalls 7, 24: a base that is not the untouched model, DoRA, and a LoRA larger than the model's matrices."""
    run = trained(tmp_path, tiny_model, tiny_rows, method, quant, **changes)
    assert sorted(path.name for path in run.trained.iterdir()) == ["README.md", "factors"]
    for folder in (run.trained, run.factors, run.start):
        with pytest.raises((ValueError, OSError), match=r"adapter_config\.json"):
            PeftModel.from_pretrained(plain(tiny_model), folder)
        with pytest.raises((ValueError, OSError), match=r"adapter_config\.json"):
            AutoPeftModelForCausalLM.from_pretrained(folder)
        with pytest.raises((ValueError, OSError)):
            AutoModelForCausalLM.from_pretrained(folder)
    assert word in card(run) and "pissa export" in card(run)


def test_a_fully_fine_tuned_cell_is_a_model_with_its_tokenizer(tmp_path, tiny_model, tiny_rows):
    run = trained(tmp_path, tiny_model, tiny_rows, "full")
    model = AutoModelForCausalLM.from_pretrained(run.trained, dtype=torch.float32).eval()
    assert relative_difference(logits(model, PROMPTS), run.merged(PROMPTS).logits) < 1e-6
    text = "What is 3 + 4?"
    assert AutoTokenizer.from_pretrained(run.trained)(text) == AutoTokenizer.from_pretrained(tiny_model)(text)
    assert "AutoModelForCausalLM.from_pretrained" in card(run)


def test_base_json_says_what_the_factors_belong_on(tmp_path, tiny_model, tiny_rows):
    run = trained(tmp_path, tiny_model, tiny_rows, "pissa", "nf4", alpha=8.0)
    base = read_json(run.factors / factors.BASE)
    wanted = {"offset": "start", "quant": "nf4", "method": "pissa", "scaling": 8 / run.cell.rank, "format": 1}
    assert wanted.items() <= base.items()
    assert base["fingerprint"] == read_json(run.model)["fingerprint"] and "torch" in base["versions"]
    assert base["start"] == factors.sha256(run.start) and base["sha256"] == factors.sha256(run.factors)


def test_the_card_has_the_scores_that_there_are(tmp_path, tiny_model, tiny_rows, capsys):
    """Written by the training without any; --write puts the new one in its place, and changes nothing else."""
    run = Run(tmp_path, tiny_model, tiny_rows, "lora", steps=2, learning_rate=5e-3)
    trained_and_scored(run)
    (tmp_path / "eval").mkdir()
    for name in ("task.json", "task.samples.jsonl"):
        (tmp_path / name).rename(tmp_path / "eval" / name)
    words = ("card", tmp_path, "--init", run.start, "--model", run.model)
    first = card(run)
    assert "standard error" not in first
    pissa(*words)
    shown = capsys.readouterr().out
    metrics = read_json(tmp_path / "eval/task.json")["metrics"]
    assert f"| task | paper | {metrics['paper']['value']:.4f} |" in shown and "| 3 |" in shown
    assert card(run) == first
    pissa(*words, "--write")
    assert card(run) == shown[:-1]
    assert all(line in shown for line in first.splitlines())
    (tmp_path / "trained/README.md").write_text("old", encoding="utf-8")
    pissa("card", tmp_path / "trained", *words[2:], "--write")
    assert card(run) == shown[:-1] and not (tmp_path / "trained/trained").exists()
    cells.read(tmp_path, run.start, run.model)


def test_a_training_in_bfloat16_says_that_its_residual_was_rounded(tmp_path, tiny_model, tiny_rows):
    run = trained(tmp_path, tiny_model, tiny_rows, "pissa", dtype="bfloat16")
    assert "that rounding is lost" in card(run)


def test_a_folder_of_a_newer_version_is_named(tmp_path, tiny_model, tiny_rows):
    run = Run(tmp_path, tiny_model, tiny_rows, "lora")
    run.init()
    path = run.start / factors.BASE
    path.write_text(path.read_text(encoding="utf-8").replace('"format": 1', '"format": 2'), encoding="utf-8")
    with pytest.raises(UserError, match="format 2; this version reads 1"):
        run.train()


def test_a_cell_of_a_sweep_is_found_with_its_start_and_base(tmp_path, tiny_model, tiny_rows):
    """By content: the start's folder is not named anywhere."""
    run = trained(tmp_path / "run", tiny_model, tiny_rows, "pissa")
    results = tmp_path / "results"
    home, start = paths.cell(run.cell.name, results).folder, paths.start(run.cell.start, results)
    for source, place in ((run.start, start), (run.folder, home)):
        place.parent.mkdir(parents=True, exist_ok=True)
        source.rename(place)
    with pytest.raises(UserError, match=r"record of its base model is not at .*tiny\.json"):
        cells.read(home)
    paths.model("tiny", results).parent.mkdir(parents=True)
    (home / "model.json").rename(paths.model("tiny", results))
    for given in (home, home / "trained", home / "trained/factors"):
        found = cells.read(given)
        assert (found.start, found.label, found.spec) == (start, "tiny", run.spec)
    start.rename(tmp_path / "moved")
    with pytest.raises(UserError, match=r"none of the starts .* --init"):
        cells.read(home)
    assert cells.read(home, start=tmp_path / "moved").start == tmp_path / "moved"
    with pytest.raises(UserError, match="not a trained cell"):
        cells.read(results)
