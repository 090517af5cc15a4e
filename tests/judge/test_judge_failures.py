"""What does not pass: an error that says where, once everything that was said is kept."""

import re
import threading
import traceback

import pytest
from asking import ASKED, QUICK, SECRET, SLOWLY, ask, fails, lines, wait_for
from judge_server import Raw, error, point_at

from pissa_repro.grading import judge as judging
from pissa_repro.grading.judge import Question
from pissa_repro.grading.judge.endpoint import KEY, THREADS, TIMEOUT, URL, Patience
from pissa_repro.runtime.errors import UserError


def test_a_judge_that_never_rates(judge, journal):
    judge.say = lambda prompt: "No idea." if prompt == "rate 2/1" else "[[7]]"
    said = fails(journal)
    assert "the judge at 127.0.0.1, question 2, turn 1: no rating from 1 to 10 in 3 replies" in said
    assert "'No idea.'" in said and "Of 6 judgements 5 were made" in said
    # the others were all asked, and what it said is there to be read
    assert judge.counts() == {question.prompt: 3 if question == ASKED[2] else 1 for question in ASKED}
    (unrated,) = [line for line in lines(journal) if line["rating"] is None]
    assert (unrated["question"], unrated["turn"], unrated["text"], len(unrated["earlier"])) == (2, 1, "No idea.", 2)
    # and it alone is asked again
    judge.say, judge.requests = lambda prompt: "[[4]]", []
    assert ask(journal) == [7, 7, 4, 7, 7, 7]
    assert judge.counts() == {"rate 2/1": 1}


def test_a_server_that_is_no_judge_is_not_asked_everything(judge, journal):
    judge.say = lambda prompt: Raw(body=b"<html>Sign in</html>")
    many = [Question(number, 1, f"rate {number}") for number in range(1, 101)]
    said = fails(journal, many)
    assert ": nothing that is a chat completion in 3 replies" in said and "Sign in" in said
    assert len(judge.counts()) <= judging.ENOUGH + SLOWLY.threads


def test_one_request_that_is_refused_does_not_stop_the_others(judge, journal):
    too_long = error(400, "This model's maximum context length is 8192 tokens.")
    judge.say = lambda prompt: too_long if prompt == "rate 1/2" else "[[7]]"
    said = fails(journal)
    assert "question 1, turn 2: HTTP 400" in said and "maximum context length" in said and "5 were made" in said


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (error(401, "no"), f"HTTP 401. Check {KEY}"), (error(403, "no"), f"HTTP 403. Check {KEY}"),
        (error(404, "unknown model"), f"HTTP 404. Check that {URL} ends in /v1 and that the server knows the model "),
        (error(500, "broken"), "HTTP 500"), (error(429, "quota"), f"HTTP 429. It refuses for its limit; {THREADS}"),
        (Raw(302, headers={"Location": "http://127.0.0.1:9/"}), f"HTTP 302. Check that {URL}"),
        (error(429, "no", Retry_After="soon"), "HTTP 429. It refuses for its limit"),
        (Raw(stall=20.0), f"nothing within 2 s; {TIMEOUT} allows more"),
    ],
    ids=lambda value: "" if isinstance(value, str) else f"{value.status}{value.headers}",
)  # fmt: skip
def test_a_server_that_does_not_serve_stops_it(judge, journal, reply, said):
    judge.say = lambda prompt: "[[7]]" if prompt in ("rate 1/1", "rate 1/2") else reply
    message = fails(journal, patience=Patience(timeout=2.0, tries=2, late=0, backoff=0.01, threads=1))
    assert "the judge at 127.0.0.1, question 2, turn 1: " in message and said in message
    assert "Of 6 judgements 2 were made; they are kept, and so are the generations" in message
    assert set(judge.counts()) == {"rate 1/1", "rate 1/2", "rate 2/1"}, "it went on asking"
    assert [line["rating"] for line in lines(journal)] == [7, 7]


def test_a_wrong_path(judge, journal, monkeypatch):
    monkeypatch.setenv(URL, judge.url.removesuffix("/v1"))
    assert f"HTTP 404. Check that {URL} ends in /v1" in fails(journal)


def test_nothing_listens(journal, monkeypatch, closed):
    point_at(monkeypatch, f"{closed}/v1")
    said = fails(journal, patience=QUICK)
    # any of the questions that are asked at once may be the first to fail
    assert re.search(r"the judge at 127.0.0.1, question \d, turn \d: no answer \(the connection was refused\)", said)
    assert "Of 6 judgements 0 were made" in said


def test_of_the_address_only_the_host_is_shown(journal, monkeypatch, closed):
    """A gateway may have its secret in the path; the errors of requests hold all of it."""
    point_at(monkeypatch, f"{closed}/{SECRET}/v1")
    with pytest.raises(UserError) as caught:
        ask(journal)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_no_such_host(journal, monkeypatch):
    point_at(monkeypatch, "http://judge.invalid/v1")
    monkeypatch.setenv("NO_PROXY", "*")
    said = fails(journal)
    assert "the judge at judge.invalid, question" in said and f"no answer (no such host; check {URL})" in said


def test_what_was_said_before_the_judge_went_away_is_kept(judge, journal):
    judge.script = ["No idea.", error(401), error(401)]
    assert "HTTP 401" in fails(journal)
    (line,) = lines(journal)
    assert (line["rating"], line["text"]) == (None, "No idea.")


def test_requests_under_way_are_kept_when_another_fails(judge, journal):
    judge.say = lambda prompt: error(401) if prompt == "rate 1/1" else "[[7]]"
    judge.hold = threading.Event()
    threading.Thread(target=lambda: (wait_for(lambda: judge.busy == 4), judge.hold.set())).start()
    said = fails(journal, patience=QUICK)
    assert ": HTTP 401" in said
    assert {(line["question"], line["turn"]) for line in lines(journal)} >= {(1, 2), (2, 1), (2, 2)}


def test_a_server_that_is_down_ends_the_waits_of_others(judge, journal):
    """No question waits for minutes when another has found out that it is of no use."""
    waiting = threading.Event()

    def say(prompt):
        if prompt == "rate 1/1":
            waiting.wait(60)
            return error(401, "no")
        waiting.set()
        return error(429, "slow down", Retry_After="250")

    judge.say = say
    assert ": HTTP 401" in fails(journal, patience=Patience(threads=2))
    assert judge.counts() == {"rate 1/1": 1, "rate 1/2": 1}
