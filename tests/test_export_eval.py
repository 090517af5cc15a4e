"""Scores for other people's tools: each format holds what its readers need, and where the number comes from."""

import json
import re

import jsonschema
import pytest
import yaml
from commands import pissa
from huggingface_hub import parse_eval_result_entries
from stage import says

from pissa_repro.exchange import peft_read, scored
from pissa_repro.runtime.record import write_json

SHA = {"trained/factors.safetensors": "f" * 64}
ORIGIN = {
    "git": {"commit": "c0ffee", "dirty": False}, "hardware": {"platform": "Linux-6", "processor": "P", "gpus": []},
    "versions": {"torch": "2.13.0", "peft": "0.21.2", "transformers": "5.19.0", "lm-eval": "0.4.13"},
    "seconds": 60.5, "finished": "2026-11-27T06:37:19Z", "memory_bytes": 9, "gpu_memory_bytes": None,
}  # fmt: skip
BASE = {"name": "/home/me/llama", "commit": None, "fingerprint": "b" * 64}
SPEC = {
    "stage": "train", "version": 1, "method": "pissa", "quant": "nf4", "lora": {}, "learning_rate": 2e-5, "seed": 3,
    "init": {"method": "pissa", "rank": 16, "alpha": 16.0, "rslora": False, "target_modules": ["q_proj"]},
    "settings": {
        "dtype": "bfloat16", "max_length": 512, "batch_size": 128, "max_grad_norm": 1.0, "weight_decay": 0,
        "adam_beta1": 0.9, "adam_beta2": 0.999, "adam_epsilon": 1e-8, "schedule": "cosine", "dropout": 0,
    },
}  # fmt: skip
TRAIN = {
    "spec": SPEC, "base": BASE, "trained_sha256": SHA, "provenance": ORIGIN, "final_loss": 0.25, "steps": 10,
    "batch": {"effective": 128}, "trainable_parameters": 1000, "train_seconds": 50.0, "data_sha256": "1" * 64,
    "lengths": {"tokens": 30, "examples": 3},
}  # fmt: skip
METRICS = {"paper": {"value": 0.732, "stderr": 0.028, "n": 250}, "strict": {"value": 0.7, "stderr": None, "n": 250}}


def score(task="gsm8k", **changes):
    asked = {"stage": "generate", "version": 1, "task": task, "max_new_tokens": 56, "backend": "hf", "dtype": "float32"}
    return {
        "spec": {"stage": "evaluate", "version": 1, "generate": {**asked, "train": SPEC}}, "base": BASE,
        "data_sha256": "2" * 64, "trained_sha256": SHA, "metrics": METRICS, "seen_in_training": 0,
        "generated": {"runs": [ORIGIN]}, "provenance": ORIGIN,
    } | changes  # fmt: skip


@pytest.fixture
def cell(tmp_path):
    """A scored cell whose records are invented, in a results folder; its test rows came from a hub."""
    results = tmp_path / "results"
    folder = results / "cells/llama/metamath/pissa-nf4-r16-lr2e-05-s3"
    write_json(folder / "train.json", TRAIN)
    write_json(folder / "eval/gsm8k.json", score())
    spec = {"dataset": {"hub": "openai/gsm8k", "revision": "main"}}
    write_json(results / "fetch/data/test.json", {"sha256": "2" * 64, "commit": "e53f", "spec": spec})
    return folder


def exported(cell, *options):
    """The files of an export by their paths inside."""
    out = cell.parents[4] / "out"
    pissa("export-eval", cell, "--out", out, *options)
    return {str(path.relative_to(out)): path.read_text(encoding="utf-8") for path in out.rglob("*") if path.is_file()}


def test_peft_reads_what_its_own_page_reads_and_so_do_we(cell, tmp_path):
    ((name, text),) = exported(cell, "--as", "peft").items()
    assert name == "pissa--llama--metamath--pissa-nf4-r16-lr2e-05-s3.json"
    found = json.loads(text)
    run, train = found["run_info"], found["train_info"]
    # The keys and types of method_comparison/processing.py.
    integers = ("accelerator_memory_reserved_avg", "accelerator_memory_max", "accelerator_memory_reserved_99th")
    assert all(isinstance(train[key], int) for key in (*integers, "file_size"))
    assert train["status"] == "success" and train["train_time"] == 50.0 and run["total_time"] == 60.5
    last = {"test accuracy": 0.732, "train loss": 0.25, "train samples": 1280, "train total tokens": 12800, "step": 10}
    assert train["metrics"] == [last]
    assert {"experiment_name", "peft_branch", "train_config", "created_at"} <= run.keys()
    assert run["peft_config"]["peft_type"] == "LORA" and run["train_config"]["model_id"] == "llama", "no path"
    assert run["created_at"] == "2026-11-27T06:36:18+00:00"
    needed = {f"{package}-version" for package in ("peft", "transformers", "datasets", "torch", "bitsandbytes")}
    assert needed <= found["meta_info"]["package_info"].keys() and found["meta_info"]["system_info"]
    (path,) = (tmp_path / "out").iterdir()
    (back,) = peft_read.read(path, None, "here").runs
    assert (back.scores, back.n, back.stderr, back.rank, back.learning_rate) == ((0.732,), 250, 0.028, 16, 2e-5)


TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
BOUND = {"anyOf": [{"type": "number"}, {"enum": ["Infinity", "-Infinity"]}]}


def holding(required: str, **properties) -> dict:
    return {"type": "object", "required": required.split(), "properties": properties}


# The fields of schemas/eval.schema.json (github.com/evaleval/every_eval_ever) and of validator/validation_core.py that
# we write, in our words: the repository shows no licence, so its text is not here.
EEE = holding(
    "schema_version evaluation_id retrieved_timestamp source_metadata model_info eval_library evaluation_results",
    schema_version={"const": "0.3.0"},
    evaluation_id={"type": "string", "pattern": "^[^/]+/[^/]+/[^/]+/[0-9]+$"},
    evaluation_timestamp={"type": "string"},
    retrieved_timestamp={"type": "string", "pattern": "^[0-9.]+$"},
    source_metadata=holding(
        "source_type source_organization_name evaluator_relationship",
        source_type={"enum": ["documentation", "evaluation_run"]},
        evaluator_relationship={"enum": ["first_party", "third_party", "collaborative", "other"]},
    ),
    eval_library=holding("name version", name={"type": "string"}, version={"type": "string"}),
    model_info=holding(
        "name id additional_details",
        id={"type": "string", "pattern": "^[^/]+/[^/]+$"},
        inference_engine=holding("name version", name={"type": "string"}, version={"type": "string"}),
        additional_details=TEXTS
        | holding(
            "deployment_type model_availability",
            deployment_type={"enum": ["self_deployed", "externally_managed", "unknown"]},
            model_availability={"enum": ["open_weights", "closed_weights", "unknown"]},
        ),
    ),
    evaluation_results={
        "type": "array",
        "items": holding(
            "evaluation_name source_data metric_config score_details",
            source_data={
                "oneOf": [
                    holding("dataset_name source_type hf_repo", source_type={"const": "hf_dataset"}),
                    holding("dataset_name source_type", source_type={"const": "other"}),
                ]
            },
            metric_config=holding(
                "lower_is_better score_type min_score max_score",
                lower_is_better={"type": "boolean"},
                score_type={"enum": ["binary", "continuous", "levels"]},
                min_score=BOUND,
                max_score=BOUND,
            ),
            score_details=holding(
                "score",
                score={"type": "number"},
                details=TEXTS,
                uncertainty=holding(
                    "num_samples",
                    num_samples={"type": "integer"},
                    standard_error=holding("value", value={"type": "number"}),
                ),
            ),
            generation_config=holding(
                "generation_args",
                generation_args={
                    "additionalProperties": False,
                    "properties": {"temperature": {"type": "number"}, "max_tokens": {"type": "integer", "minimum": 1}},
                },
                additional_details=TEXTS,
            ),
        ),
    },
)
EEE["additionalProperties"] = False
UUID4 = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


def test_every_eval_ever_takes_the_record_at_its_path(cell):
    write_json(cell / "eval/text.json", score("perplexity", metrics={"paper": {"value": 2.1, "stderr": None, "n": 9}}))
    ((path, text),) = exported(cell, "--as", "every-eval-ever", "--organization", "My lab: NLP").items()
    place = r"data/gsm8k/My-lab-NLP/llama--metamath--pissa-nf4-r16-lr2e-05-s3/"
    assert re.fullmatch(place + UUID4 + r"\.json", path)
    found = json.loads(text)
    jsonschema.validate(found, EEE)
    numbers = {result["evaluation_result_id"]: result for result in found["evaluation_results"]}
    assert numbers.keys() == {"gsm8k/paper", "gsm8k/strict", "text/paper"}
    paper = numbers["gsm8k/paper"]["score_details"]
    assert paper["score"] == 0.732 and paper["uncertainty"]["standard_error"]["value"] == 0.028
    assert "standard_error" not in numbers["gsm8k/strict"]["score_details"]["uncertainty"]
    known = {"seed": "3", "n": "250", "commit": "c0ffee", "dirty": "false", "rank": "16"}
    assert {key: paper["details"][key] for key in known} == known
    assert json.loads(paper["details"]["spec"]) == score()["spec"]
    assert json.loads(paper["details"]["versions_of_training"]) == ORIGIN["versions"]
    nats = numbers["text/paper"]["metric_config"]
    assert nats["lower_is_better"] and (nats["min_score"], nats["max_score"]) == ("-Infinity", "Infinity")
    assert "/home/me" not in text


def test_the_hub_reads_the_entry_with_its_origin_in_the_notes(cell):
    ((path, text),) = exported(cell, "--as", "hub", "--leaderboard", "gsm8k", "--url", "https://x.org/y").items()
    assert path == "llama--metamath--pissa-nf4-r16-lr2e-05-s3/.eval_results/gsm8k.yaml"
    (entry,) = parse_eval_result_entries(yaml.safe_load(text))
    assert (entry.dataset_id, entry.task_id, entry.dataset_revision) == ("openai/gsm8k", "gsm8k", "e53f")
    assert entry.value == pytest.approx(73.2) and entry.source_url == "https://x.org/y"
    for words in ("n 250", "standard error 2.8", "seed 3", "commit c0ffee;", "torch 2.13.0", "in percent"):
        assert words in entry.notes
    assert scored.read(cell).facts("gsm8k", "paper")["spec_sha256"] in entry.notes


def test_an_edited_checkout_is_said_everywhere(cell):
    dirty = {**ORIGIN, "git": {"commit": "c0ffee", "dirty": True}}
    write_json(cell / "train.json", {**TRAIN, "provenance": dirty})
    assert "commit c0ffee (changed)" in next(iter(exported(cell, "--as", "hub").values()))


REFUSED = [
    (("--as", "peff"), "--as: unknown format 'peff'. Did you mean 'peft'"),
    (("--as", "peft", "--task", "gsm"), "unknown task 'gsm'"),
    (("--as", "peft", "--metric", "stric"), "unknown metric 'stric'. Did you mean 'strict'"),
    (("--as", "every-eval-ever"), "--organization: who reports"),
    (("--as", "every-eval-ever", "--organization", "a", "--model", "mine"), "--model: 'mine' is no hub id"),
    (("--as", "every-eval-ever", "--metric", "paper"), "--metric: --as every-eval-ever has no place for it"),
    (("--as", "hub", "--url", "x.org"), "--url: 'x.org' is no address"),
]


@pytest.mark.parametrize(("options", "words"), REFUSED)
def test_a_wrong_option_is_refused_before_anything_is_written(cell, options, words):
    says(lambda: exported(cell, *options), words)
    assert not (cell.parents[4] / "out").exists()


def test_a_cell_that_cannot_be_told_is_refused(cell, tmp_path):
    write_json(cell / "eval/other.json", score())
    says(lambda: exported(cell, "--as", "peft"), "gsm8k, other; choose one with --task")
    write_json(cell / "eval/other.json", score("perplexity"))
    says(lambda: exported(cell, "--as", "peft", "--task", "other"), "'paper' of other is no accuracy")
    write_json(cell / "eval/other.json", score(trained_sha256={}))
    says(lambda: exported(cell, "--as", "peft", "--task", "other"), "of other trained weights")
    old = {key: value for key, value in score().items() if key != "generated"}
    write_json(cell / "eval/other.json", old)
    says(lambda: exported(cell, "--as", "peft", "--task", "other"), "no 'generated': a record of another version")
    says(lambda: pissa("export-eval", tmp_path, "--as", "peft", "--out", tmp_path / "out"), "not a scored cell")
    (tmp_path / "results/fetch/data/test.json").unlink()
    says(lambda: exported(cell, "--as", "hub", "--task", "gsm8k"), "came from no hub", "--benchmark OWNER/NAME")
    adopted = {key: value for key, value in TRAIN.items() if key != "final_loss"} | {"trained": "trained elsewhere"}
    write_json(cell / "train.json", adopted)
    says(lambda: exported(cell, "--as", "peft", "--task", "gsm8k"), "trained elsewhere")
    (tmp_path / "out").mkdir()
    says(lambda: exported(cell, "--as", "peft", "--task", "gsm8k"), "exists already")


@pytest.mark.parametrize("options", [("peft",), ("hub",), ("every-eval-ever", "--organization", "we")])
def test_a_training_that_diverged_has_no_score_to_export(cell, options):
    write_json(cell / "train.json", TRAIN | {"final_loss": None, "diverged": 3})
    write_json(cell / "eval/gsm8k.json", score(metrics={}, diverged=3))
    says(lambda: exported(cell, "--as", *options), "diverged at step 3", "no score to export")
