"""What does not go together with classes is said in the dry run, or by the admission, before any work."""

import copy

import pytest
import torch
import yaml
from admitting import admitted
from classifiers import FIELDS, NAMED, TARGETS, TEXTS, save_bert, save_classifier
from damage import add, edit
from helpers import config
from stage import says
from test_workflow import jobs, snakemake
from transformers import T5Config, T5ForSequenceClassification

from pissa_repro import methods
from pissa_repro.model import classes
from pissa_repro.model.skeleton import skeleton
from pissa_repro.model.targets import chosen
from pissa_repro.plan import admission
from pissa_repro.plan.sweep import Sweep
from pissa_repro.sources.rows import select

HEAD = classes.Head(("0", "1"), 0)


@pytest.fixture
def swept(models, rows):
    """The config of a sweep that trains on rows with a label and asks for their classes."""
    return config(models["bert"], rows["one"], "pissa", "none", fields=FIELDS, target_modules=TARGETS["bert"])


def test_the_specs_say_that_classes_are_trained(swept):
    """Only there: the specs of a sweep that trains words hold nothing new."""
    sweep = Sweep(swept)
    (cell,) = sweep.cells.values()
    assert sweep.train_spec(cell)["settings"]["task"] == "classification"
    assert admission.spec(sweep, "sweep", "tiny")["training"] == [
        {"rows": "rows", "max_length": 256, "task": "classification"}
    ]
    swept["datasets"]["rows"]["fields"] = {"prompt": "text", "response": "label"}
    swept["tasks"]["task"]["task"] = "gsm8k"
    words = Sweep(swept)
    (cell,) = words.cells.values()
    assert "task" not in words.train_spec(cell)["settings"]
    assert "task" not in admission.spec(words, "sweep", "tiny")["training"][0]


WRONG = {  # what is changed in the config, and the words of the refusal
    "no text": ({"fields": {"label": "label"}}, ["config.datasets.rows.fields", "'label' and no 'text'"]),
    "a prompt too": ({"fields": {**FIELDS, "prompt": "text"}}, ["'label' and 'prompt'", "'text_pair'"]),
    "a pair without a label": ({"fields": {"text": "a", "text_pair": "b"}}, ["'text_pair' and no 'label'"]),
    "a task of words": ({"task": "gsm8k"}, ["config.datasets.rows.fields", "no 'prompt'"]),
    "a task of texts": ({"task": "perplexity"}, ["'task' asks for words", "trains classes", "tasks of classification"]),
    "vllm": ({"backend": "vllm"}, ["config.tasks.task.backend", "words only", "hf"]),
    "a prompt style": ({"prompt": "chat"}, ["config.train.prompt: 'chat'", "trains classes", "Leave it out"]),
    "another loss": ({"loss": "all"}, ["config.train.loss: 'all'", "trains classes"]),
}


@pytest.mark.parametrize(("changes", "words"), WRONG.values(), ids=WRONG)
def test_a_config_that_makes_no_sense_is_refused(swept, changes, words):
    wrong = copy.deepcopy(swept)
    for key, value in changes.items():
        section = {
            "fields": wrong["datasets"]["rows"],
            "task": wrong["tasks"]["task"],
            "backend": wrong["tasks"]["task"],
        }
        section.get(key, wrong["train"])[key] = value
    says(lambda: list(Sweep(wrong).cells), *words)


def test_a_start_that_sees_data_does_not_see_classes(swept):
    seeing = next(
        name for name in methods.names() if methods.load(name).STATISTICS and not methods.refusal(name, "none")
    )
    (named,) = {cell["method"] for cell in swept["sweep"]["cells"]}
    swept["methods"][named] = {"init": seeing}
    says(
        lambda: Sweep(swept).starts, f"config.methods.{named}", "dataset 'rows'", "teach a class", "starts without data"
    )


def test_a_model_of_words_is_not_asked_for_classes(swept):
    swept["datasets"]["words"] = {"path": "w.jsonl", "fields": {"prompt": "prompt", "response": "response"}}
    swept["sweep"]["datasets"] = ["words"]
    says(lambda: Sweep(swept), "'task' asks for classes", "'words' trains words", "no role 'label'", "gsm8k")
    swept["tasks"]["words"] = {"task": "gsm8k", "dataset": "words", "max_new_tokens": 8}
    swept["sweep"] |= {"datasets": ["rows"], "tasks": ["task", "words"]}
    says(lambda: Sweep(swept), "'words' asks for words", "'rows' trains classes", "tasks of classification")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, ["row 1 has null in field 'label'"]),
        (3.8, ["row 1 has 3.8", "regression", "STS-B"]),
        ("missing", ["row 1 has no field 'label'"]),
    ],
)
def test_a_row_without_a_class_is_told(value, words):
    other = {"text": "b"} if value == "missing" else {"text": "b", "label": value}
    source = {"fields": FIELDS}
    says(lambda: select([{"text": "a", "label": 1}, other], source, "config.datasets (x)"), *words)
    assert select([{"text": "a", "label": 1}], source, "x") == [{"text": "a", "label": "1"}]


def found_of(model, folder, train=TEXTS, test=TEXTS, **changes):
    """What the admission finds of a sweep on classes."""
    settings = {"fields": FIELDS, "target_modules": TARGETS["bert"], **changes}
    return admitted(model, folder, train=train, test=test, task="classification", **settings)


def test_the_admission_counts_what_is_cut(models, tmp_path):
    found = found_of(models["bert"], tmp_path, max_length=16)
    assert found["architecture"] == "classification" and found["training"][0]["lengths"]["truncated"] == 12
    assert found["tasks"]["task"]["items"] == 12 and found["tasks"]["task"]["cut"] == 0
    assert found_of(models["bert"], tmp_path, test=[{"text": "a" * 300, "label": "1"}])["tasks"]["task"]["cut"] == 1


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ({"test": [{"text": "a", "label": "2"}]}, ["config.tasks.task", "row 0", "'2'", "Choices: 0, 1"]),
        ({"train": TEXTS[:1]}, ["config.datasets.rows", "every row has the label", "two classes or more"]),
        ({"train": [*TEXTS, {"text": "a", "label": "-1"}]}, ["label -1", "GLUE"]),
    ],
)
def test_rows_that_cannot_be_trained_or_scored_are_told(models, tmp_path, rows, words):
    says(lambda: found_of(models["bert"], tmp_path, **rows), *words)


def test_a_head_of_other_classes_is_told(models, tmp_path):
    folder = save_classifier(models["bert"], tmp_path / "three", ("a", "b", "c"))
    says(lambda: found_of(folder, tmp_path), "the head has 3 classes (a, b, c)", "the rows 2 (0, 1)")
    folder = save_classifier(models["bert"], tmp_path / "other", ("odd", "even"))
    says(lambda: found_of(folder, tmp_path), "2 classes (odd, even)", "other names (0, 1)", "as the head names")
    train = [{key: row[key] for key in FIELDS} for row in NAMED]
    assert found_of(folder, tmp_path, train=train, test=train)["architecture"] == "classification"


def test_a_classifier_is_not_trained_on_words(models, tmp_path):
    folder = save_classifier(models["bert"], tmp_path / "bert", ("0", "1"))
    says(lambda: skeleton(folder), str(folder), "classes and no words", "rows with a `label`")


def test_an_encoder_decoder_gives_no_classes_here(tmp_path):
    sizes = {"d_model": 16, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2, "vocab_size": 30}
    T5ForSequenceClassification(T5Config(**sizes)).save_pretrained(tmp_path / "t5")
    says(lambda: skeleton(tmp_path / "t5", HEAD), "t5", "an encoder and a decoder", "Choices:")


def test_every_linear_layer_but_the_heads(models, tmp_path):
    """PEFT leaves out a classifier's head, too; those of the file's own kind are no part of the model."""
    named = {name.rsplit(".", 2)[-2:][0] for name in chosen(models["bert"], {"target_modules": "all-linear"})}
    assert named == {"self", "output", "intermediate", "pooler"}
    folder = save_classifier(models["bert"], tmp_path / "bert", ("0", "1"))
    assert set(chosen(folder, {"target_modules": "all-linear"})) == set(
        chosen(models["bert"], {"target_modules": "all-linear"})
    )


def test_a_stranger_among_the_weights_is_still_told(tmp_path):
    """The heads of the files' own class are left out, and nothing else."""
    folder = save_bert(tmp_path / "bert", "BertForPreTraining")
    assert skeleton(folder, HEAD).classifier.weight.device.type == "meta"
    add(folder, bert__more__weight=torch.zeros(2, 2))
    says(lambda: skeleton(folder, HEAD), "bert.more.weight", "does not use")
    folder = save_bert(tmp_path / "other", "BertForPreTraining")
    edit(folder / "config.json", architectures=["BertModel"])
    says(lambda: skeleton(folder, HEAD), "cls.", "does not use")


def test_a_workflow_plans_the_sweep(tmp_path, swept):
    """A whole dry run of snakemake: the config is laid over the default, as a user's."""
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(swept), encoding="utf-8")
    done = snakemake("-n", "results/scores.csv", "--configfile", str(path), folder=tmp_path)
    assert {"fetch_data", "fetch_model", "admit", "init", "train", "generate", "evaluate"} <= jobs(done).keys()
