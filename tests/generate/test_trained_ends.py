"""Case 1: whole cells, trained and scored: what folders name as eos, and eos-appending tokenizers, change nothing."""

import shutil

import pytest
from ending import NAMED, naming
from generated_cells import comparable
from helpers import Run
from tiny import byte_tokenizer

from pissa_repro.runtime.record import read_json, read_lines, write_json, write_lines
from pissa_repro.stages import evaluate

LESSON = [
    ("Say 3", "it is 3\nThe answer is: 3"),
    ("Say 4", "it is 4, it is 4\nThe answer is: 4"),
    ("Tell me 5", "it is 5, and it is 5, yes, 5\nThe answer is: 5"),
    ("Say 6", "6\nThe answer is: 6"),
]
METHODS = ("pissa", "full")


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    """The rows to learn, and the same rows to be scored on."""
    folder = tmp_path_factory.mktemp("lesson")
    write_lines(folder / "train.jsonl", [{"prompt": p, "response": r} for p, r in LESSON])
    write_lines(folder / "test.jsonl", [{"prompt": p, "response": f"#### {p[-1]}"} for p, _ in LESSON])
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory, tiny_model, lesson):
    """The tiny model after the lesson: its answers end with eos, early and late."""
    run = Run(
        tmp_path_factory.mktemp("base"), tiny_model, lesson / "train.jsonl", "full", epochs=80, learning_rate=5e-3
    )
    run.train()
    shutil.copytree(tiny_model, run.folder / "model")
    for path in run.trained.glob("*[!.md]"):
        shutil.copy(path, run.folder / "model")
    return run.folder / "model"


def cell(folder, model, lesson, method):
    """A cell of the model after two more steps, with its records."""
    run = Run(folder, model, lesson / "train.jsonl", method, epochs=2, learning_rate=1e-4, max_new_tokens=48)
    run.init()
    record = run.train()
    run.rows = lesson / "test.jsonl"
    return run, record


@pytest.fixture(scope="module")
def cells(tmp_path_factory, base, lesson):
    """A cell of each method on a sound folder, scored: {method: (run, train record, score, samples)}."""
    made = {}
    for method in METHODS:
        run, record = cell(tmp_path_factory.mktemp(method), base, lesson, method)
        made[method] = (run, record, run.evaluate(), read_lines(run.folder / "task.samples.jsonl"))
    return made


@pytest.mark.parametrize("named", ["another", "none"])
@pytest.mark.parametrize("method", METHODS)
def test_a_score_does_not_depend_on_the_eos_that_the_folder_names(cells, base, tmp_path, method, named):
    """Case 1: nor on the batch; the good score of the sound folder stays."""
    run, _, score, samples = cells[method]
    assert score["metrics"]["paper"]["value"] >= 0.75 and len({len(s["generated"]) for s in samples}) > 2
    folder = naming(base, tmp_path / "model", **NAMED[named])
    write_json(tmp_path / "model.json", read_json(run.model) | {"path": str(folder)})
    for batch in ("1", "8"):
        run.generated = tmp_path / f"{batch}.jsonl"
        argv = run.evaluate_argv("--batch-size", batch)
        evaluate.main([str(tmp_path / "model.json") if word == str(run.model) else word for word in argv])
        assert comparable(read_json(run.folder / "task.json")) == comparable(score)
        assert read_lines(run.folder / "task.samples.jsonl") == samples


@pytest.mark.parametrize("method", METHODS)
def test_an_eos_appending_tokenizer_trains_and_scores_as_the_plain_one(cells, base, lesson, tmp_path, method):
    """Case 1: training took the eos off its prompts, generation asked with it."""
    _, trained, score, samples = cells[method]
    shutil.copytree(base, tmp_path / "model")
    byte_tokenizer("<s> $A </s>").save_pretrained(tmp_path / "model")
    run, record = cell(tmp_path / "cell", tmp_path / "model", lesson, method)
    assert record["final_loss"] == trained["final_loss"] and record["lengths"] == trained["lengths"]
    assert run.evaluate()["metrics"] == score["metrics"]
    assert read_lines(run.folder / "task.samples.jsonl") == samples


def test_a_fully_fine_tuned_folder_names_the_eos_that_it_was_trained_with(base, lesson, tmp_path):
    """Case 1: TRL keeps the folder's others beside it."""
    folder = naming(base, tmp_path / "model", **NAMED["a list"])
    run, _ = cell(tmp_path / "cell", folder, lesson, "full")
    for name in ("config", "generation_config"):
        saved = read_json(run.trained / f"{name}.json")
        assert (saved["bos_token_id"], saved["eos_token_id"], saved["pad_token_id"]) == (0, 1, 1)
