"""What tests of the judge share: questions, patience, and one run that asks them."""

import json
import time

import pytest

from pissa_repro.grading.judge import Question, judge_all, keeping, rating
from pissa_repro.grading.judge.endpoint import Patience
from pissa_repro.runtime.errors import UserError

SECRET = "sk-test-0123456789abcdef"
QUICK = Patience(timeout=5.0, tries=3, late=1, backoff=0.01, threads=4)
SLOWLY = Patience(timeout=5.0, tries=3, late=1, backoff=0.01, threads=1)
ASKED = [Question(number, turn, f"rate {number}/{turn}") for number in (1, 2, 3) for turn in (1, 2)]


def lines(journal):
    """The journal's lines, read."""
    return [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]


def ask(journal, questions=ASKED, patience=QUICK):
    """Judge and give the ratings, as one run does."""
    with keeping(journal):
        judge_all(questions, patience)
        return [rating(question.prompt) for question in questions]


def wait_for(what):
    """Go on as soon as it holds, within a minute."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if what():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come to that")


def fails(journal, questions=ASKED, patience=SLOWLY):
    """What the error says in which it ends."""
    with pytest.raises(UserError) as caught:
        ask(journal, questions, patience)
    return str(caught.value)
