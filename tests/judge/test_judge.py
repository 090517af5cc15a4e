"""The judge: asked over real HTTP, and patient with what passes."""

import threading
import time

import pytest
from asking import ASKED, QUICK, SLOWLY, ask, lines, wait_for
from judge_server import Raw, error

from pissa_repro.grading.judge import Question, judge_all, keeping, summary
from pissa_repro.grading.judge.client import REMINDER, rating_in
from pissa_repro.grading.judge.endpoint import Patience

# The rating in a text: the published rule


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Good.\nRating: [[7]]", 7), ("[[10]]", 10), ("[[1]]", 1), ("[[7.5]]", 7.5), ("[[8.]]", 8), ("[[08]]", 8),
        # the first in double brackets, wherever single ones stand
        ("[[6]] or rather [[9]]", 6), ("as [1] says: [[4]]", 4),
        # then the first in single ones
        ("Rating: [5]", 5), ("[3] and [9]", 3), ("[9.25]", 9.25),
        # nonsense, also when a later number would do
        ("[[0]]", None), ("[[11]]", None), ("[[0.9]]", None), ("[[11]] [[5]]", None), ("[[11]] [5]", None),
        ("[[-3]]", None), ("[[7/10]]", None), ("[[ 7 ]]", None), ("[[rating]]", None), ("Rating: 7", None),
        ("", None), ("[[]]", None), ("[[" + "9" * 5000 + "]]", None), ("[[\u0667]]", None), ("[[1e1]]", None),
    ],
)  # fmt: skip
def test_rating(text, value):
    assert rating_in(text) == value


# What goes over the wire, and what comes back


def test_every_question_is_asked_once_and_rated(judge, journal):
    judge.say = lambda prompt: f"Reasons.\nRating: [[{prompt[5]}.{prompt[7]}]]"
    assert ask(journal) == [1.1, 1.2, 2.1, 2.2, 3.1, 3.2]
    assert judge.counts() == {question.prompt: 1 for question in ASKED}


def test_the_request(judge, journal):
    ask(journal, ASKED[:1])
    (request,) = judge.requests
    assert request.path == "/v1/chat/completions"
    assert request.key is None
    assert request.body == {
        "model": "gpt-4", "messages": [{"role": "user", "content": "rate 1/1"}],
        "temperature": 0, "max_tokens": 2048, "stream": False,
    }  # fmt: skip


def test_summary(judge, journal):
    judge.script = ["hm", "[[3]]"]
    with keeping(journal):
        assert summary() is None
        judge_all(ASKED, SLOWLY)
        assert summary() == {
            "model": "gpt-4", "answered_by": ["gpt-4-0613"], "judgements": 6, "asked_again": 1,
            "prompt_tokens": 700, "completion_tokens": 140,
        }  # fmt: skip
        # of what this run uses, not of all that is in the file
        judge_all(ASKED[2:4], SLOWLY)
        assert (summary()["judgements"], summary()["asked_again"], summary()["prompt_tokens"]) == (2, 0, 200)


def test_a_server_that_tells_no_tokens(judge, journal):
    judge.tokens = None
    with keeping(journal):
        judge_all(ASKED, QUICK)
        assert summary()["prompt_tokens"] is None and summary()["completion_tokens"] is None


def test_requests_run_in_parallel(judge, journal):
    judge.hold = threading.Event()
    many = [Question(number, 1, f"rate {number}") for number in range(1, 13)]
    worker = threading.Thread(target=ask, args=(journal, many))
    worker.start()
    wait_for(lambda: judge.busy == QUICK.threads)
    judge.hold.set()
    worker.join()
    assert judge.busiest == QUICK.threads
    assert sorted(line["question"] for line in lines(journal)) == list(range(1, 13))


# What passes: asked again


def test_429_waits_as_long_as_it_is_told(judge, journal):
    judge.script = [error(429, "slow down", Retry_After="1")]
    began = time.monotonic()
    assert ask(journal, ASKED[:1], SLOWLY) == [7]
    assert time.monotonic() - began >= 1.0
    assert len(judge.requests) == 2


def test_a_retry_after_of_a_day_is_not_waited_for(judge, journal):
    judge.script = [error(429, "come back tomorrow", Retry_After="86400")]
    assert ask(journal, ASKED[:1], Patience(backoff=0.01, longest=0.05, threads=1)) == [7]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 529])
def test_what_passes_is_asked_again(judge, journal, status):
    judge.script = [error(status), error(status)]
    assert ask(journal, ASKED[:1], SLOWLY) == [7]
    assert len(judge.requests) == 3 and len(lines(journal)) == 1


def test_a_late_reply_is_asked_for_again(judge, journal):
    judge.script = [Raw(stall=20.0)]
    assert ask(journal, ASKED[:1], Patience(timeout=2.0, backoff=0.01, threads=1)) == [7]
    assert len(judge.requests) == 2


@pytest.mark.parametrize(
    "page",
    [
        Raw(body=b"<html>Sign in</html>"), Raw(body=b""), Raw(body=b"\xff\xfe\x00"), Raw(body=b"[]"), Raw(body=b"7"),
        Raw(body=b'{"choices": []}'), Raw(body=b'{"choices": [{"message": null}]}'), Raw(body=b'{"error": "busy"}'),
        Raw(body=b'{"choices": [{"message": {"content": "[[9]]"}}]}', cut=20), Raw(body=b"[" * 100_000),
        Raw(body=b"Rating: [[9]]"),
    ],
    ids=lambda page: repr(page.body[:30]),
)  # fmt: skip
def test_a_reply_that_is_no_chat_completion_is_asked_for_again(judge, journal, page):
    judge.script = [page, page]
    assert ask(journal, ASKED[:1], SLOWLY) == [7]
    assert [len(request.body["messages"]) for request in judge.requests] == [1, 1, 1]
    assert len(lines(journal)[0]["earlier"]) == 2


@pytest.mark.parametrize("content", ["null", '""', '[{"type": "text", "text": "[[9]]"}]'])
def test_a_reply_without_text_is_asked_for_again(judge, journal, content):
    judge.script = [Raw(body=b'{"choices": [{"message": {"content": %s}}]}' % content.encode())]
    assert ask(journal, ASKED[:1], SLOWLY) == [7]
    assert [len(request.body["messages"]) for request in judge.requests] == [1, 1]


def test_a_judge_without_a_rating_is_shown_its_own_words(judge, journal):
    judge.script = ["I liked it.", "Ten out of ten! [[110]]", "[[8]]"]
    assert ask(journal, ASKED[:1], SLOWLY) == [8]
    assert judge.requests[1].body["messages"] == [
        {"role": "user", "content": "rate 1/1"},
        {"role": "assistant", "content": "I liked it."},
        {"role": "user", "content": REMINDER},
    ]
    (line,) = lines(journal)
    assert (line["text"], line["earlier"]) == ("[[8]]", ["I liked it.", "Ten out of ten! [[110]]"])
    assert (line["prompt_tokens"], line["completion_tokens"]) == (300, 60)
