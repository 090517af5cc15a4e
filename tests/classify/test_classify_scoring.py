"""What is scored are the classes that stock transformers gives; what leaves a cell is loaded by stock PEFT."""

import shutil

import pytest
import torch
from classifiers import run_of
from commands import pissa
from peft import AutoPeftModelForSequenceClassification, PeftModel
from stage import says
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from pissa_repro.adapters.info import examine
from pissa_repro.model.checks import logits, relative_difference
from pissa_repro.runtime import paths
from pissa_repro.runtime.record import read_json, read_lines, write_json, write_lines
from pissa_repro.stages import evaluate
from pissa_repro.tasks import classification

PROMPTS = [[1, 9, 40, 17, 2], [1, 60, 33, 2]]
PAD = {"bert": 0, "llama": 1}


def whole(folder, **more):
    return AutoModelForSequenceClassification.from_pretrained(folder, **more).eval()


def gold(run):
    """The labels and the answers of the samples."""
    samples = list(read_lines(run.folder / "task.samples.jsonl"))
    return [sample["target"] for sample in samples], [sample["generated"] for sample in samples]


def own_f1(labels, answers, name):
    """2 TP / (2 TP + FP + FN) of one class."""
    both = sum(label == answer == name for label, answer in zip(labels, answers, strict=True))
    return 2 * both / (labels.count(name) + answers.count(name))


def correlation(labels, answers, name):
    """Matthews': the correlation of two columns of 0 and 1; 0 where one of them does not vary."""
    columns = torch.tensor([[float(one == name) for one in column] for column in (labels, answers)])
    return columns.corrcoef()[0, 1].nan_to_num().item()


@pytest.fixture(scope="module")
def scored(tmp_path_factory, models, rows):
    """Cells that were trained and scored on the same rows: full training on pairs, PiSSA on single texts."""
    found = {}
    for kind, form, method, steps in (("bert", "two", "full", 30), ("llama", "one", "pissa", 9)):
        run = run_of(
            tmp_path_factory.mktemp("scored"), models[kind], rows[form], method, steps=steps, learning_rate=3e-3
        )
        run.train()
        found[kind] = run, run.evaluate()
    return found


def test_the_answers_are_those_of_a_stock_pipeline(scored):
    """Of pairs one by one, without any padding, by the folder of the training."""
    run, _ = scored["bert"]
    stock = pipeline("text-classification", model=str(run.trained), tokenizer=str(run.trained), device="cpu")
    texts = [{"text": row["text"], "text_pair": row["text_pair"]} for row in read_lines(run.rows)]
    assert gold(run)[1] == [stock(text)["label"] for text in texts]
    assert set(gold(run)[1]) == {"even", "odd"}


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_the_metrics_are_those_of_their_formulas(scored, kind):
    run, record = scored[kind]
    labels, answers = gold(run)
    metrics = record["metrics"]
    right = torch.tensor([float(a == b) for a, b in zip(labels, answers, strict=True)]).double()
    assert metrics["paper"]["value"] == right.mean().item() and metrics["paper"]["n"] == 12
    assert metrics["paper"]["stderr"] == pytest.approx((right.std() / 12**0.5).item(), rel=1e-5)
    positive = {"bert": "odd", "llama": "1"}[kind]
    assert metrics["f1"]["value"] == pytest.approx(own_f1(labels, answers, positive))
    assert metrics["mcc"]["value"] == pytest.approx(correlation(labels, answers, positive))
    assert record["checks"]["training_effect"] > 0.1 and record["prompts_cut"] == 0
    assert record["seen_in_training"] is None and record["generated"]["tokens"] == 0


def test_f1_of_several_classes_is_the_mean_over_them():
    pairs = [("0", "0"), ("1", "2"), ("2", "2"), ("10", "1"), ("1", "1"), ("10", "10")]
    wanted = sum(own_f1(*zip(*pairs, strict=True), name) for name in ("0", "1", "2", "10")) / 4
    assert classification.f1(pairs) == pytest.approx(wanted)
    assert classification.f1([("2", "10"), ("10", "10")]) == pytest.approx(2 / 3)  # 10 is the second class


def test_a_label_that_was_not_trained_is_refused(tmp_path, scored):
    """By hand; in a sweep the admission says it."""
    run, _ = scored["llama"]
    folder, rows = tmp_path / "cell", tmp_path / "other.jsonl"
    shutil.copytree(run.folder, folder)
    (folder / run.generated.name).unlink()
    write_lines(rows, [{"text": "Ann", "label": "7"}])
    moved = [str(word).replace(str(run.folder), str(folder)) for word in run.evaluate_argv()]
    moved[moved.index("--data") + 1] = str(rows)
    says(lambda: evaluate.main(moved), "row 0", "'7'", "no row of the training has", "0, 1")


def stored(run, folder):
    """The cell where the commands find it, with its start and the record of its model."""
    cell, results = folder / "results/cells/tiny/rows/cell", folder / "results"
    shutil.copytree(run.folder, cell)
    if run.init_spec:
        shutil.copytree(run.start, results / "init/tiny/start")
    paths.model("tiny", results).parent.mkdir(parents=True)
    shutil.copy(run.model, paths.model("tiny", results))
    return cell


def test_a_plain_lora_with_its_head_is_what_stock_peft_loads(tmp_path, scored, models):
    """The folder of the training itself, and by PEFT's class that finds the base; vLLM is not offered."""
    run, _ = scored["llama"]
    config, wanted = read_json(run.trained / "adapter_config.json"), run.merged(PROMPTS).logits
    assert config["task_type"] == "SEQ_CLS" and config["modules_to_save"] == ["score"] and wanted.shape == (2, 2)
    base = whole(models["llama"], num_labels=2, pad_token_id=PAD["llama"])
    stock = PeftModel.from_pretrained(base, run.trained).eval()
    assert relative_difference(logits(stock, PROMPTS), wanted) < 1e-5
    card = (run.trained / "README.md").read_text(encoding="utf-8")
    assert "AutoModelForSequenceClassification.from_pretrained" in card and "num_labels=2, pad_token_id=1" in card
    assert "vllm serve" not in card and "vLLM is used for models that write words only" in card
    shutil.copytree(run.trained, tmp_path / "trained")
    found = read_json(tmp_path / "trained/adapter_config.json") | {"base_model_name_or_path": str(models["llama"])}
    write_json(tmp_path / "trained/adapter_config.json", found)
    told = {"num_labels": 2, "pad_token_id": PAD["llama"]}
    auto = AutoPeftModelForSequenceClassification.from_pretrained(tmp_path / "trained", **told).eval()
    assert relative_difference(logits(auto, PROMPTS), wanted) < 1e-5


def test_a_whole_model_is_what_transformers_loads(scored):
    run, _ = scored["bert"]
    stock, wanted = whole(run.trained), run.merged(PROMPTS).logits
    assert torch.equal(logits(stock, PROMPTS), wanted) and stock.config.id2label == {0: "even", 1: "odd"}
    assert AutoTokenizer.from_pretrained(run.trained).pad_token_id == stock.config.pad_token_id == PAD["bert"]
    assert "vllm" not in (run.trained / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("kind", "form", "quant"), [("llama", "one", "none"), ("bert", "two", "nf4")])
def test_every_form_of_a_cell_is_the_trained_model(tmp_path, models, rows, scored, kind, form, quant):
    """The commands compare the logits themselves, too, and `pissa verify` finds no broken arrow."""
    run = scored["llama"][0]
    if quant != "none":
        run = run_of(tmp_path / "run", models[kind], rows[form], "pissa", quant, steps=3)
        run.train()
    cell, wanted = stored(run, tmp_path), run.merged(PROMPTS).logits
    told, more = {"num_labels": 2, "pad_token_id": PAD[kind]}, ("--base", "trained") if quant != "none" else ()
    pissa("export", cell, "--as", "merged", "--out", tmp_path / "merged", *more)
    merged = whole(tmp_path / "merged")
    assert relative_difference(logits(merged, PROMPTS), wanted) < 1e-5
    pissa("export", cell, "--as", "residual", "--out", tmp_path / "residual")
    residual = PeftModel.from_pretrained(whole(tmp_path / "residual", **told), tmp_path / "residual/trained").eval()
    assert relative_difference(logits(residual, PROMPTS), wanted) < 1e-5
    for folder in ("merged", "residual"):
        assert "AutoModelForSequenceClassification" in examine(tmp_path / folder).loading
    if quant == "none":
        pissa("export", cell, "--as", "lora", "--out", tmp_path / "lora")
        lora = PeftModel.from_pretrained(whole(models[kind], **told), tmp_path / "lora").eval()
        assert relative_difference(logits(lora, PROMPTS), wanted) < 1e-5
        assert "num_labels=2" in examine(tmp_path / "lora").loading
        pissa("verify", cell, "--no-serve")
    else:
        says(
            lambda: pissa("export", cell, "--as", "merged", "--base", "bf16", "--out", tmp_path / "x"),
            "head",
            "trained",
        )
