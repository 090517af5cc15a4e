"""MT-Bench: what the model is asked, what the judge is told, and the ratings through lm-eval."""

import json

import pytest
from judge_server import Judge, point_at, running
from tiny import byte_tokenizer

from pissa_repro.runtime.errors import UserError
from pissa_repro.sources.prompt import PROMPT, Style, written
from pissa_repro.sources.rows import select
from pissa_repro.tasks import mt_bench
from pissa_repro.tasks.mt_bench import first_turn, judge_prompt, next_turn

ESSAY = {"turns": ["Write {x}.", "Now shorter."], "category": "writing", "reference": None}
SUM = {"turns": ["What is 2+2?", "And 2+3?"], "category": "math", "reference": ["It is 4.", "It is 5."]}


@pytest.fixture
def judge(monkeypatch):
    with running(Judge()) as served:
        point_at(monkeypatch, served.url)
        yield served


# What the model is asked


def test_the_two_prompts():
    head = "Below is an instruction that describes a task. Write a response that appropriately completes the request."
    first = f"{head}\n\n### Instruction:\nWrite {{x}}.\n\n### Response:"
    assert (first_turn(ESSAY), next_turn(ESSAY, [])) == ("Write {x}.", "Write {x}.")
    assert written("alpaca", [first_turn(ESSAY)]) == first
    second = first + "An {essay}.\n\n### Instruction:\nNow shorter.\n\n### Response:"
    assert after(ESSAY, "An {essay}.") == second
    assert next_turn(ESSAY, ["An essay.", "Short."]) is None


def after(doc, answer):
    """The released prompt of the second turn."""
    return written("alpaca", [first_turn(doc), next_turn(doc, [answer])], [answer])


@pytest.mark.parametrize(
    ("answer", "shown"), [("", ""), ("\n", ""), (" a\n\nb \n", "a\n\nb"), ("日本 👍\n", "日本 👍"), ("x" * 90_000,) * 2]
)
def test_the_first_answer_in_the_second_prompt(answer, shown):
    """Whole, less the blank space around it; training ends a response with a newline."""
    first = written("alpaca", [first_turn(ESSAY)])
    assert after(ESSAY, answer) == f"{first}{shown}\n\n### Instruction:\nNow shorter.\n\n### Response:"


@pytest.mark.parametrize("turns", [["one"], ["a", "b", "c"], [], "two", None, [1, 2], ["a", None]])
def test_a_row_without_two_turns(turns):
    with pytest.raises(UserError, match="fields.turns must be a list of two texts"):
        first_turn({**ESSAY, "turns": turns})


# What the judge is told


def test_the_judge_is_told_what_to_weigh():
    """The published protocol: impartial, six qualities, an explanation first, [[n]] from 1 to 10."""
    for doc in (ESSAY, SUM):
        for turn in (1, 2):
            text = judge_prompt(doc, ["A1", "A2"], turn)
            assert "impartial" in text and "from 1 (worst) to 10 (best)" in text and "Rating: [[n]]" in text
            assert text.index("explain") < text.index("[[n]]")
    essay = judge_prompt(ESSAY, ["A1", "A2"], 1)
    assert all(word in essay for word in ("helpful", "relevant", "accurate", "depth", "creativity", "level of detail"))
    assert "reference" not in essay
    assert "correct and helpful" in judge_prompt(SUM, ["A1", "A2"], 1)


def test_the_first_turn_alone_or_the_whole_conversation():
    first, second = (judge_prompt(ESSAY, ["A{1}", "A{2}"], turn) for turn in (1, 2))
    assert "Write {x}." in first and "A{1}" in first
    assert "Now shorter." not in first and "A{2}" not in first and "second answer" not in first
    order = [second.index(part) for part in ("second answer", "Write {x}.", "A{1}", "Now shorter.", "A{2}")]
    assert order == sorted(order)


@pytest.mark.parametrize("category", ["math", "reasoning", "coding"])
def test_references_are_shown_in_the_published_categories(category):
    doc = {**SUM, "category": category}
    first, second = (judge_prompt(doc, ["four", "five"], turn) for turn in (1, 2))
    assert "It is 4." in first and "It is 5." not in first
    assert second.index("It is 4.") < second.index("It is 5.") < second.index("four")


@pytest.mark.parametrize("category", ["writing", "roleplay", "extraction", "stem", "humanities", "generic"])
def test_references_of_other_categories_are_not(category):
    """question.jsonl has some; FastChat shows none of them."""
    doc = {**SUM, "category": category}
    assert judge_prompt(doc, ["a", "b"], 2) == judge_prompt({**doc, "reference": None}, ["a", "b"], 2)


@pytest.mark.parametrize("reference", [None, [], [""], ["", ""]])
def test_a_question_without_a_reference_is_graded_as_a_general_one(reference):
    doc = {**SUM, "reference": reference}
    assert judge_prompt(doc, ["a", "b"], 2) == judge_prompt({**doc, "category": "writing"}, ["a", "b"], 2)


def test_a_dataset_without_the_field_reference():
    doc = {role: SUM[role] for role in ("turns", "category")}
    assert judge_prompt(doc, ["a", "b"], 2) == judge_prompt({**SUM, "reference": None}, ["a", "b"], 2)


def test_half_a_reference():
    first_only, second_only = {**SUM, "reference": ["It is 4.", ""]}, {**SUM, "reference": ["", "It is 5."]}
    assert "It is 4." in judge_prompt(first_only, ["a", "b"], 2)
    assert "question 2]\nIt is 5." in judge_prompt(second_only, ["a", "b"], 2)
    assert "reference" not in judge_prompt(second_only, ["a", "b"], 1)


@pytest.mark.parametrize("reference", ["It is 4.", ["a", "b", "c"], [4], {"a": 1}])
def test_a_reference_that_is_no_list_of_texts(reference):
    with pytest.raises(UserError, match="fields.reference must be a list of up to two texts"):
        judge_prompt({**SUM, "reference": reference}, ["a", "b"], 1)


@pytest.mark.parametrize("answers", ["one text", ["one"], [], ["a", "b", "c"]])
def test_an_item_without_two_answers(answers, judge, tmp_path):
    with mt_bench.keeping(tmp_path / "j"), pytest.raises(UserError, match="two answers are wanted"):
        mt_bench.prepare([ESSAY], [answers])
    assert not judge.requests


# The ratings


def test_generation_and_scoring_as_the_stage_runs_them(judge, tmp_path):
    """The harness asks until there is nothing left to ask, then has the kept answers judged and scored."""
    from pissa_repro.runtime.record import write_lines
    from pissa_repro.scoring import harness

    write_lines(tmp_path / "rows.jsonl", [ESSAY, SUM])
    task = harness.Task("mt_bench", tmp_path / "rows.jsonl", 64)
    turns = {item: [] for item in task.ids}
    for item, texts in turns.items():
        while task.wants(texts):
            texts.append(f"answer to {task.request(item, texts, Style('alpaca', byte_tokenizer())).args[0][-40:]}")
    assert [len(texts) for texts in turns.values()] == [2, 2]
    judge.say = lambda prompt: "[[3]]" if "second answer" in prompt else "[[6]]"
    with task.rules.keeping(tmp_path / "judgements.jsonl"):
        metrics, samples = task.score(turns)
        assert task.rules.facts()["judge"]["judgements"] == 4
    assert {name: one["value"] for name, one in metrics.items()} == {"paper": 4.5, "turn_1": 6.0, "turn_2": 3.0}
    assert [sample["generated"] for sample in samples] == list(turns.values())
    assert [sample["prompt"] for sample in samples] == [written("alpaca", [first_turn(doc)]) for doc in (ESSAY, SUM)]


def rate(tmp_path, docs, answers):
    with mt_bench.keeping(tmp_path / "judgements.jsonl"):
        mt_bench.prepare(docs, answers)
        scores = [mt_bench.process_results(doc, [both]) for doc, both in zip(docs, answers, strict=True)]
        return scores, mt_bench.facts()


def test_the_metrics(judge, tmp_path):
    judge.say = lambda prompt: "[[4.5]]" if "second answer" in prompt else "[[8]]"
    scores, facts = rate(tmp_path, [ESSAY, SUM], [["a", "b"], ["c", "d"]])
    assert scores == [{"paper": 6.25, "turn_1": 8.0, "turn_2": 4.5}] * 2
    assert facts["judge"]["model"] == "gpt-4" and facts["judge"]["judgements"] == 4
    kept = [json.loads(line) for line in (tmp_path / "judgements.jsonl").read_text(encoding="utf-8").splitlines()]
    assert sorted((line["question"], line["turn"]) for line in kept) == [(1, 1), (1, 2), (2, 1), (2, 2)]


@pytest.mark.parametrize("answers", [["", ""], ["日本 👍", "é"], ["x" * 300_000, "y\n" * 100_000], ["[[10]]", "[end]"]])
def test_every_answer_reaches_the_judge_whole(judge, tmp_path, answers):
    scores, _ = rate(tmp_path, [ESSAY], [answers])
    assert scores[0]["paper"] == 7.0
    assert {request.prompt for request in judge.requests} == {judge_prompt(ESSAY, answers, turn) for turn in (1, 2)}
    assert all(answers[0].strip() in request.prompt for request in judge.requests)


def test_a_changed_second_answer_is_the_only_one_judged_anew(judge, tmp_path):
    rate(tmp_path, [ESSAY, SUM], [["a", "b"], ["c", "d"]])
    judge.requests = []
    rate(tmp_path, [ESSAY, SUM], [["a", "b"], ["c", "another"]])
    assert [request.prompt for request in judge.requests] == [judge_prompt(SUM, ["c", "another"], 2)]


# Through lm-eval, with the real questions


def real_rows(folder):
    questions = [
        json.loads(line) for line in (folder / "mt_bench" / "question.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    fields = {"turns": "turns", "category": "category", "reference": "reference"}
    return select(questions, {"fields": fields}, "config.datasets.mt_bench")


def test_the_real_questions(shared_data):
    docs = real_rows(shared_data)
    assert len(docs) == 80
    for doc in docs:
        first, second = PROMPT.format(instruction=first_turn(doc)), after(doc, "An answer.")
        assert first_turn(doc) == doc["turns"][0]
        assert second.startswith(first + "An answer.") and doc["turns"][1] in second
    shown = [[("[begin of reference" in judge_prompt(doc, ["a", "b"], turn)) for doc in docs] for turn in (1, 2)]
    # 30 of math, reasoning and coding, less the one coding question without a reference; 39 rows have one in all
    assert [sum(one) for one in shown] == [29, 29]
    assert sum(bool(doc["reference"]) for doc in docs) == 39
    assert {doc["category"] for doc, yes in zip(docs, shown[0], strict=True) if yes} == set(mt_bench.REFERENCED)


def test_scores_through_lm_eval(judge, tmp_path):
    docs = [ESSAY, SUM, {**ESSAY, "turns": ["Again.", "And again."]}]
    judge.say = lambda prompt: "[[10]]" if "It is 4." in prompt else "[[1]]" if "Again." in prompt else "[[4]]"
    metrics, samples = through_lm_eval(docs, tmp_path)
    assert metrics["paper,none"] == metrics["turn_1,none"] == metrics["turn_2,none"] == 5.0
    assert metrics["paper_stderr,none"] == pytest.approx(7**0.5)  # of 4, 10, 1: deviation sqrt(21), over sqrt(3)
    assert [sample["paper"] for sample in samples] == [4, 10, 1]
    assert len(judge.requests) == 6


def test_the_real_questions_through_lm_eval(shared_data, judge, tmp_path):
    """lm-eval's rows are those that were judged: what a data set does to lists and nulls changes no prompt."""
    metrics, samples = through_lm_eval(real_rows(shared_data), tmp_path)
    assert metrics["paper,none"] == 7.0 and len(samples) == 80 and len(judge.requests) == 160


def through_lm_eval(docs, tmp_path):
    from lm_eval.api.model import LM
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.tasks import TaskManager

    from pissa_repro.runtime.record import write_lines
    from pissa_repro.tasks import TASKS

    class Stored(LM):
        """Two answers to every question."""

        def generate_until(self, requests, disable_tqdm=False):
            assert [request.args[0] for request in requests] == [first_turn(doc) for doc in docs]
            return [["An answer.", "Another."] for _ in requests]

        loglikelihood = loglikelihood_rolling = generate_until

    rows = tmp_path / "rows.jsonl"
    write_lines(rows, docs)
    manager = TaskManager(include_path=str(TASKS), include_defaults=False, metadata={"path": str(rows)})
    with mt_bench.keeping(tmp_path / "judgements.jsonl"):
        mt_bench.prepare(docs, [["An answer.", "Another."]] * len(docs))
        task = manager.load("mt_bench")["tasks"]["mt_bench"]
        found = simple_evaluate(Stored(), tasks=[task], log_samples=True, bootstrap_iters=1)
    return found["results"]["mt_bench"], sorted(found["samples"]["mt_bench"], key=lambda sample: sample["doc_id"])
