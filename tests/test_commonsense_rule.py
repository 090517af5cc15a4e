"""The two answer rules of the commonsense sets: the published first-match rule with its faults, and a strict one."""

import gzip
import json
import re
from pathlib import Path

import pytest

from pissa_repro.runtime.errors import UserError
from pissa_repro.tasks.commonsense import KINDS, choices, kind, paper_answer, process_results, strict_answer
from pissa_repro.tasks.rows import prompt

TASKS = Path(__file__).resolve().parent.parent / "pissa_repro" / "tasks"

BOOLQ, PIQA, ANSWERS, HELLASWAG, WINOGRANDE = KINDS
FOUR, THREE = ANSWERS[:4], ANSWERS[:3]  # what an item offers; its set has five labels
SAYS = "the correct answer is "

# labels of the set, labels of the item, generated text, the published answer, the strict answer
CASES = [
    # as trained
    (BOOLQ, BOOLQ, SAYS + "true", "true", "true"),
    (BOOLQ, BOOLQ, SAYS + "false", "false", "false"),
    (PIQA, PIQA, SAYS + "solution2", "solution2", "solution2"),
    (ANSWERS, THREE, SAYS + "answer3", "answer3", "answer3"),
    (ANSWERS, ANSWERS, SAYS + "answer5", "answer5", "answer5"),
    (HELLASWAG, HELLASWAG, SAYS + "ending4", "ending4", "ending4"),
    (WINOGRANDE, WINOGRANDE, SAYS + "option1", "option1", "option1"),
    # full stops, space around, further lines
    (BOOLQ, BOOLQ, SAYS + "true.", "true", "true"),
    (BOOLQ, BOOLQ, SAYS + "true..", "true", None),
    (BOOLQ, BOOLQ, SAYS + "true!", "true", None),
    (BOOLQ, BOOLQ, f"\n  {SAYS}true  \n", "true", "true"),
    (BOOLQ, BOOLQ, f"{SAYS}true \nfalse", "true", "true"),
    (BOOLQ, BOOLQ, f"{SAYS}true\n\n### Instruction:\nfalse", "true", "true"),
    (BOOLQ, BOOLQ, f"I think.\n{SAYS}true", "true", None),
    (BOOLQ, BOOLQ, f"{SAYS} true", "true", None),
    (BOOLQ, BOOLQ, SAYS + "true, of course", "true", None),
    # the bare label, and other sentences
    (ANSWERS, FOUR, "answer2", "answer2", None),
    (ANSWERS, FOUR, "It is answer2.", "answer2", None),
    (ANSWERS, FOUR, "The correct answer is answer2", "answer2", None),
    (ANSWERS, FOUR, "the correct answer is: answer2", "answer2", None),
    # the first label counts, also where it is denied
    (ANSWERS, FOUR, "not answer1 but answer2", "answer1", None),
    (ANSWERS, FOUR, f"{SAYS}answer2 or answer1", "answer2", None),
    (BOOLQ, BOOLQ, "it is not true that it is false", "true", None),
    # a label inside a word or a number
    (BOOLQ, BOOLQ, SAYS + "untrue", "true", None),
    (BOOLQ, BOOLQ, SAYS + "falsehood", "false", None),
    (ANSWERS, FOUR, SAYS + "answer12", "answer1", None),
    (ANSWERS, FOUR, SAYS + "answer 1", None, None),
    # case
    (BOOLQ, BOOLQ, SAYS + "True", None, None),
    (BOOLQ, BOOLQ, SAYS + "TRUE", None, None),
    (ANSWERS, FOUR, "Answer1: It is answer4", "answer4", None),
    (PIQA, PIQA, "Solution1", None, None),
    # labels that the item, or the set, does not have
    (ANSWERS, FOUR, SAYS + "answer5", "answer5", None),
    (ANSWERS, THREE, SAYS + "answer4", "answer4", None),
    (ANSWERS, FOUR, SAYS + "answer6", None, None),
    (PIQA, PIQA, SAYS + "solution3", None, None),
    (PIQA, PIQA, SAYS + "answer1", None, None),
    (BOOLQ, BOOLQ, SAYS + "yes", None, None),
    # nothing
    (BOOLQ, BOOLQ, "", None, None),
    (BOOLQ, BOOLQ, "  \n ", None, None),
    (BOOLQ, BOOLQ, SAYS, None, None),
    (ANSWERS, FOUR, "answer\u0661", None, None),
    (ANSWERS, FOUR, SAYS + "answer" * 10_000 + "3", "answer3", None),
]


@pytest.mark.parametrize(("labels", "offered", "text", "paper", "strict"), CASES, ids=lambda value: repr(value)[:30])
def test_both_rules(labels, offered, text, paper, strict):
    assert paper_answer(text, labels) == paper
    assert strict_answer(text, list(offered)) == strict


def question(offered):
    return f"Which is it?\n\nAnswer format: {'/'.join(offered)}"


def test_metrics_of_one_item():
    doc = {"prompt": question(FOUR), "answer": "answer2"}
    assert process_results(doc, ["the correct answer is answer2"]) == {"paper": 1.0, "strict": 1.0}
    assert process_results(doc, ["answer2"]) == {"paper": 1.0, "strict": 0.0}
    assert process_results(doc, ["the correct answer is answer5"]) == {"paper": 0.0, "strict": 0.0}
    assert process_results(doc, ["answer1 answer2"]) == {"paper": 0.0, "strict": 0.0}
    assert process_results(doc, [""]) == {"paper": 0.0, "strict": 0.0}


@pytest.mark.parametrize("labels", KINDS)
def test_the_reference_tells_the_set(labels):
    assert all(kind(label) == labels for label in labels)


@pytest.mark.parametrize("answer", ["", "True", "answer6", "answer", "1", "A", "the correct answer is true"])
def test_an_unknown_reference_stops_the_run(answer):
    with pytest.raises(UserError, match="unknown answer.*solution1"):
        process_results({"prompt": question(FOUR), "answer": answer}, [answer])


def test_choices_are_the_last_line_of_the_question():
    assert choices(question(THREE)) == list(THREE)
    assert choices("Answer format: a/b\n\nAnswer format: true/false\n") == ["true", "false"]
    for text in ("Which is it?", "Answer format: true/false. Think first.", "answer format: true/false", ""):
        with pytest.raises(UserError, match="no 'Answer format"):
            choices(text)
    with pytest.raises(UserError, match="not offered by the question: answer1/answer2/answer3"):
        process_results({"prompt": question(THREE), "answer": "answer4"}, ["answer4"])


ROWS = {
    "boolq_test": 3270, "boolq_train": 9427, "piqa_test": 1838, "social_i_qa_test": 1954, "winogrande_test": 1267,
    "ARC-Easy_test": 2376, "ARC-Easy_train": 2251, "ARC-Challenge_test": 1172, "ARC-Challenge_train": 1119,
    "openbookqa_test": 500, "openbookqa_train": 4957,
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_the_sets_own_outputs_are_right_by_both_rules(shared_data, name):
    with gzip.open(shared_data / "commonsense" / f"{name}.json.gz", "rt", encoding="utf-8") as file:
        rows = json.load(file)
    assert len(rows) == ROWS[name]
    for row in rows:
        doc = {"prompt": row["instruction"], "answer": row["answer"]}
        assert row["answer"] in choices(row["instruction"])
        assert set(choices(row["instruction"])) <= set(kind(row["answer"]))
        assert process_results(doc, [row["output"]]) == {"paper": 1.0, "strict": 1.0}
        for label in set(choices(row["instruction"])) - {row["answer"]}:
            wrong = re.sub(r"\w+$", label, row["output"])
            assert process_results(doc, [wrong]) == {"paper": 0.0, "strict": 0.0}


def test_through_lm_eval(tmp_path):
    """The task file itself: the paper's prompt goes out, and the means of both metrics come back."""
    from lm_eval.api.model import LM
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.tasks import TaskManager

    class Stored(LM):
        def generate_until(self, requests, disable_tqdm=False):
            assert requests[0].args == (prompt({"prompt": question(BOOLQ)}), {"do_sample": False, "until": []})
            return ["the correct answer is true", "true", "false", ""]

        def loglikelihood(self, requests, disable_tqdm=False):
            raise NotImplementedError

        loglikelihood_rolling = loglikelihood

    rows = [{"prompt": question(BOOLQ), "answer": "true"}] * 4
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    manager = TaskManager(include_path=str(TASKS), include_defaults=False, metadata={"path": str(path)})
    results = simple_evaluate(Stored(), tasks=["commonsense"], task_manager=manager, bootstrap_iters=1)["results"][
        "commonsense"
    ]
    assert (results["paper,none"], results["strict,none"]) == (0.5, 0.25)
