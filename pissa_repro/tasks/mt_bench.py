"""MT-Bench: the two turns, what the judge is asked, and its ratings. Used by mt_bench.yaml.

The protocol is that of Zheng et al. 2023 (arXiv 2306.05685) and FastChat's llm_judge; the words to the judge are ours.
"""

from typing import Any

from pissa_repro.grading import judge
from pissa_repro.runtime.errors import UserError

__all__ = [
    "REFERENCED",
    "TURNS",
    "check",
    "facts",
    "first_turn",
    "judge_prompt",
    "keeping",
    "next_turn",
    "prepare",
    "process_results",
]

TURNS = 2  # answers that a question needs

# FastChat's llm_judge/common.py, NEED_REF_CATS: references in other categories are not shown to the judge.
REFERENCED = ("math", "reasoning", "coding")

_TASK = "You are an impartial examiner. A user has talked with an AI assistant; you grade what the assistant wrote.\n"
_SECOND = (
    "The conversation has two turns. Grade the assistant's second answer; the first turn is there so that you "
    "understand it.\n"
)
_QUALITIES = (
    "Weigh how helpful, relevant and accurate the answer is, how much depth and creativity it shows, and whether its "
    "level of detail suits the question.\n"
)
_CORRECTNESS = (
    "Weigh how correct and helpful the answer is. You are also given a reference answer: compare the two first, and "
    "name and correct every mistake you find.\n"
)
_FORM = (
    "Stay objective. First explain your judgement briefly. After that, and only then, rate the answer on a scale from "
    "1 (worst) to 10 (best), in exactly this form, with your number in place of n: Rating: [[n]]\n"
)


def _turns(doc: dict[str, Any]) -> list[str]:
    """The question's two turns. Raises UserError for anything but two texts."""
    value = doc["turns"]
    if not isinstance(value, list) or len(value) != TURNS or not all(isinstance(turn, str) for turn in value):
        raise UserError(f"mt_bench: fields.turns must be a list of two texts, a row has {str(value)[:80]!r}.")
    return value


def check(doc: dict[str, Any]) -> None:
    """Raise UserError for a row without two turns, or with references that are not up to two texts."""
    _turns(doc)
    _references(doc)


def first_turn(doc: dict[str, Any]) -> str:
    """What the user says first."""
    return _turns(doc)[0]


def next_turn(doc: dict[str, Any], texts: list[str]) -> str | None:
    """What the user says after these answers; None after two."""
    return _turns(doc)[len(texts)] if len(texts) < TURNS else None


def _references(doc: dict[str, Any]) -> list[str]:
    """The reference answers to both turns; an empty text where there is none, or where the judge is not to see one."""
    given = (doc.get("reference") or []) if doc["category"] in REFERENCED else []
    if not isinstance(given, list) or len(given) > 2 or not all(isinstance(text, str) for text in given):
        raise UserError(f"mt_bench: fields.reference must be a list of up to two texts, a row has {str(given)[:80]!r}.")
    return [*given, "", ""][:2]


def judge_prompt(doc: dict[str, Any], answers: list[str], turn: int) -> str:
    """All that the judge is told for one rating: turn 1 shows the first question and answer, turn 2 both."""
    known = _references(doc)[:turn]
    text = _TASK + _SECOND * (turn == 2) + (_CORRECTNESS if any(known) else _QUALITIES) + _FORM
    for number, reference in enumerate(known, 1):
        if reference:
            text += _part(f"reference answer to question {number}", reference)
    for number, (question, answer) in enumerate(zip(_turns(doc)[:turn], answers[:turn], strict=True), 1):
        text += _part(f"question {number}", question) + _part(f"assistant's answer to question {number}", answer)
    return text


def _part(name: str, content: str) -> str:
    return f"\n[begin of {name}]\n{content.strip()}\n[end of {name}]\n"


def _judge_prompts(doc: dict[str, Any], answers: list[str]) -> list[str]:
    """The judge's prompts for both turns. Raises UserError for anything but two answers."""
    if not isinstance(answers, list) or len(answers) != TURNS:
        raise UserError(f"mt_bench: two answers are wanted, one for each turn; stored is {str(answers)[:80]!r}.")
    return [judge_prompt(doc, answers, turn) for turn in (1, 2)]


keeping = judge.keeping


def prepare(docs: list[dict[str, Any]], answers: list[list[str]]) -> None:
    """Have both answers to every question judged, within `with keeping(path):`.

    Raises UserError without a judge (judge/endpoint.py), or when it fails; what it said by then is kept.
    """
    judge.judge_all(
        judge.Question(number, turn, prompt)
        for number, (doc, both) in enumerate(zip(docs, answers, strict=True), 1)
        for turn, prompt in enumerate(_judge_prompts(doc, both), 1)
    )


def process_results(doc: dict[str, Any], results: list[list[str]]) -> dict[str, float]:
    """The ratings of one question (1..10). paper: the mean of both turns, as FastChat's show_result averages them."""
    first, second = (judge.rating(prompt) for prompt in _judge_prompts(doc, results[0]))
    return {"paper": (first + second) / 2, "turn_1": first, "turn_2": second}


def facts() -> dict[str, Any]:
    """For the score's record: which judge, how many judgements, how many tokens."""
    return {"judge": judge.summary()}
