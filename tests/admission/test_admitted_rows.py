"""Case 14: every row, prompt and answer is checked against its task and the model's window before any work."""

import pytest
from admitting import GOOD, admitted
from stage import says

PROMPT = "What is 3 + 1?"
QUESTION = "Is water wet?\n\nAnswer format: true/false"
PROGRAM = {"prompt": "Add one.", "response": "def f(n): return n + 1"}
UNSCORED = {
    "gsm8k": ({"prompt": PROMPT, "response": "it is 4"}, {"prompt": PROMPT, "response": "#### 4"}, "no number"),
    "math": ({"prompt": PROMPT, "response": "4"}, {"prompt": PROMPT, "response": "\\boxed{4}"}, "boxed"),
    "commonsense": ({"prompt": QUESTION, "answer": "answer1"}, {"prompt": QUESTION, "answer": "true"}, "not offered"),
    "mbpp": (PROGRAM | {"tests": [""]}, PROGRAM | {"tests": ["assert f(1) == 2"]}, "no tests"),
    "mt_bench": ({"turns": ["one"], "category": "math"}, {"turns": ["one", "two"], "category": "math"}, "two texts"),
}


@pytest.mark.parametrize("task", UNSCORED)
def test_a_row_that_its_task_cannot_score_is_told_with_its_number(tiny_model, tmp_path, task):
    """Case 14: such a row was told after the training, some only after generating."""
    bad, good, words = UNSCORED[task]
    assert admitted(tiny_model, tmp_path, test=[good, good], task=task)["tasks"]["task"]["items"] == 2
    says(lambda: admitted(tiny_model, tmp_path, test=[good, bad], task=task), "config.tasks.task", "row 1", words)


def test_a_text_for_perplexity_is_admitted_and_no_text_is_not(tiny_model, tmp_path):
    """Case 14: perplexity's chunks are its items."""
    text = [{"text": "one line\n" * 2000}]
    assert admitted(tiny_model, tmp_path, test=text, task="perplexity")["tasks"]["task"]["items"] == 3
    says(lambda: admitted(tiny_model, tmp_path, test=[{"text": ""}], task="perplexity"), "config.tasks.task", "no text")


def test_prompts_and_examples_that_are_cut_are_counted(tiny_model, tmp_path, caplog):
    """Case 14: rows longer than the window are counted, test prompts as well, in the record and in the log."""
    long = [{"prompt": "a " * 600, "response": "b\n#### 4"}]
    train = [*GOOD, {"prompt": "a", "response": "b " * 300}, *long]
    found = admitted(tiny_model, tmp_path, train, [*long, {"prompt": PROMPT, "response": "#### 4"}])
    (rows,) = found["training"]
    assert (rows["lengths"]["truncated"], rows["lengths"]["dropped"]) == (1, 1)
    assert found["tasks"]["task"] == {"items": 2, "longest": found["tasks"]["task"]["longest"], "cut": 1}
    assert found["tasks"]["task"]["longest"] > 512
    assert len(found["warnings"]) == 3 and all(warning in caplog.text for warning in found["warnings"])
    assert "1 of 8 examples are dropped, no token of the response is left" in caplog.text


def test_an_answer_that_fills_the_window(tiny_model, tmp_path):
    """Case 14: max_new_tokens is held against the window; so far only generating did, after the training."""
    says(lambda: admitted(tiny_model, tmp_path, max_new_tokens=512), "config.tasks.task", "max_new_tokens 512", "512")


def test_examples_longer_than_the_model_sees_or_without_any_response(tiny_model, tmp_path):
    """Case 14: max_length against the window, and a set whose prompts leave no room."""
    says(lambda: admitted(tiny_model, tmp_path, max_length=513), "config.train.max_length", "513", "512")
    says(lambda: admitted(tiny_model, tmp_path, max_length=8), "config.train.max_length", "nothing to train on")


def test_a_rank_above_the_smaller_side(tiny_model, tmp_path):
    """Case 14: of all ranks of the sweep, before the first start."""
    says(lambda: admitted(tiny_model, tmp_path, rank=65), "rank 65", "config.sweep.ranks")
