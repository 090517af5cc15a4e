"""The judge: asked over real HTTP, patient with what passes, and never asked twice for what it has said."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
import traceback

import pytest
from conftest import ROOT
from judge_server import Judge, Raw, closed_port, error, running

from pissa_repro.grading import judge as judging
from pissa_repro.grading.judge import Question, judge_all, keeping, rating, summary
from pissa_repro.grading.judge.client import REMINDER, rating_in
from pissa_repro.grading.judge.endpoint import KEY, MODEL, THREADS, TIMEOUT, URL, Patience, endpoint
from pissa_repro.runtime.errors import UserError

SECRET = "sk-test-0123456789abcdef"
QUICK = Patience(timeout=5.0, tries=3, late=1, backoff=0.01, threads=4)
SLOWLY = Patience(timeout=5.0, tries=3, late=1, backoff=0.01, threads=1)
ASKED = [Question(number, turn, f"rate {number}/{turn}") for number in (1, 2, 3) for turn in (1, 2)]


@pytest.fixture
def judge(monkeypatch):
    """A running judge that the environment names."""
    with running(Judge()) as served:
        point_at(monkeypatch, served.url)
        yield served


@pytest.fixture
def closed():
    """A base address on which nobody listens."""
    with closed_port() as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "kept" / "judgements.jsonl"


def point_at(monkeypatch, url, key=None):
    for name in (KEY, THREADS, TIMEOUT):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(URL, url)
    monkeypatch.setenv(MODEL, "gpt-4")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    if key:
        monkeypatch.setenv(KEY, key)


def lines(journal):
    return [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]


def ask(journal, questions=ASKED, patience=QUICK):
    """Judge and give the ratings, as one run does."""
    with keeping(journal):
        judge_all(questions, patience)
        return [rating(question.prompt) for question in questions]


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


def test_the_key_is_sent(judge, journal, monkeypatch):
    judge.key = SECRET
    point_at(monkeypatch, judge.url, SECRET)
    ask(journal)
    assert {request.key for request in judge.requests} == {SECRET}


def test_no_other_key_is_sent_than_the_one_that_was_set(judge, journal, monkeypatch, tmp_path):
    """requests would take one from ~/.netrc."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password elsewhere\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    ask(journal, ASKED[:1])
    point_at(monkeypatch, judge.url, SECRET)
    ask(journal, ASKED[1:2])
    assert [request.key for request in judge.requests] == [None, SECRET]


def test_a_line_of_the_journal(judge, journal):
    judge.say = lambda prompt: "Schön, 很好 \u2028 👍\nRating: [[9]]"
    ask(journal, ASKED[1:2])
    content = journal.read_bytes()
    assert content.endswith(b"\n") and "很好".encode() in content
    line = json.loads(content)
    assert line.pop("seconds") > 0
    assert line == {
        "question": 1, "turn": 2, "judge": "gpt-4", "answered_by": "gpt-4-0613", "rating": 9.0,
        # sha256sum of "rate 1/2"
        "prompt_sha256": "fd5be127a2da7cd494784d1c305cf3086bef75a440e6ff5e674e3550ee3e8e01",
        "text": "Schön, 很好 \u2028 👍\nRating: [[9]]", "earlier": [], "prompt_tokens": 100, "completion_tokens": 20,
    }  # fmt: skip


def test_text_that_utf8_cannot_hold_is_kept_as_it_came(judge, journal):
    judge.say = lambda prompt: "half a pair: \ud800 [[5]]"
    assert ask(journal, ASKED[:1]) == [5]
    assert json.loads(journal.read_bytes())["text"] == "half a pair: \ud800 [[5]]"
    assert ask(journal, ASKED[:1]) == [5] and len(judge.requests) == 1


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


def wait_for(what):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if what():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come to that")


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


# What does not pass: an error that says where, once everything that was said is kept


def fails(journal, questions=ASKED, patience=SLOWLY):
    with pytest.raises(UserError) as caught:
        ask(journal, questions, patience)
    return str(caught.value)


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
        (error(429, "no", Retry_After="soon"), "no answer (InvalidHeader)"),
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


# The key stays where it is


@pytest.mark.parametrize(
    "reply",
    [
        error(401, f"Incorrect API key provided: {SECRET}."), error(400, f"bad {SECRET}"),
        Raw(body=f"<html>{SECRET}".encode()), Raw(500, body=f"<html>{SECRET}".encode()),
        f"Your key is {SECRET}.", f"Your key is {SECRET}. [[6]]", Raw(302, headers={"Location": f"/?key={SECRET}"}),
        Raw(body=b'{"model": "m-%s", "choices": [{"message": {"content": "[[6]]"}}]}' % SECRET.encode()),
        Raw(body=b'{"choices": [{"message": {"content": "\\u0073%s [[6]]"}}]}' % SECRET[1:].encode()),
    ],
)  # fmt: skip
def test_the_key_goes_nowhere_but_to_the_judge(judge, journal, monkeypatch, caplog, capfd, tmp_path, reply):
    point_at(monkeypatch, judge.url, SECRET)
    judge.say = lambda prompt: reply
    text = ""
    with caplog.at_level(logging.DEBUG):
        try:
            with keeping(journal):
                judge_all(ASKED, QUICK)
                text += repr(summary())
        except UserError as error:
            text += str(error) + repr(error.__cause__) + repr(error.args)
    text += caplog.text + "".join(capfd.readouterr()) + repr(endpoint())
    text += "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert judge.requests[0].key == SECRET
    assert SECRET not in text


@pytest.mark.parametrize("key", ["sk-01234 56789", "sk-0123456789\nsk-x", "sk-0123456789\u00e9"])
def test_a_key_that_cannot_be_sent_is_refused_without_being_shown(journal, monkeypatch, key):
    point_at(monkeypatch, "http://127.0.0.1:9/v1", key)
    said = fails(journal)
    assert KEY in said and "0123" not in said


def test_a_line_end_around_the_key_does_not_matter(judge, journal, monkeypatch):
    point_at(monkeypatch, judge.url + "/", f" {SECRET}\n")
    ask(journal, ASKED[:1])
    assert judge.requests[0].key == SECRET


def test_a_placeholder_for_a_key_does_not_maim_what_the_judge_says(judge, journal, monkeypatch):
    point_at(monkeypatch, judge.url, "EMPTY")
    judge.say = lambda prompt: "The answer is EMPTY. [[1]]"
    ask(journal, ASKED[:1])
    assert lines(journal)[0]["text"] == "The answer is EMPTY. [[1]]"


# Settings


@pytest.mark.parametrize("missing", [URL, MODEL])
def test_no_judge(journal, monkeypatch, missing):
    point_at(monkeypatch, "http://127.0.0.1:9/v1")
    monkeypatch.setenv(missing, " ")
    said = fails(journal)
    assert all(name in said for name in (URL, MODEL, KEY))
    assert "The generations are kept" in said and "run the same command to go on" in said


@pytest.mark.parametrize(
    "url",
    ["gpt-4", "ftp://h/v1", "http://", "http:///v1", f"https://me:{SECRET}@h/v1", f"https://h/v1?key={SECRET}",
     "http://h:port/v1", "http://h:99999/v1", "http://h/v1#x", "http://[::1/v1",
     f"http://a..b/{SECRET}/v1", f"http://{'a' * 70}.x/{SECRET}/v1"],
)  # fmt: skip
def test_an_address_that_is_none(journal, monkeypatch, url):
    point_at(monkeypatch, url)
    monkeypatch.setenv("NO_PROXY", "*")
    with pytest.raises(UserError) as caught:
        ask(journal)
    assert str(caught.value).startswith(f"{URL}: not a base address")
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("word", ["0", "-1", "many", "nan", "inf", "1e9", "2.5"])
def test_threads_that_are_none(monkeypatch, word):
    monkeypatch.setenv(THREADS, word)
    with pytest.raises(UserError, match=f"{THREADS}: '{word}' is not a positive whole number"):
        Patience.from_environment()


def test_patience_of_the_environment(monkeypatch):
    monkeypatch.setenv(THREADS, "2")
    monkeypatch.setenv(TIMEOUT, "1.5")
    assert Patience.from_environment() == Patience(threads=2, timeout=1.5)
    monkeypatch.delenv(THREADS)
    monkeypatch.setenv(TIMEOUT, "")
    assert Patience.from_environment() == Patience()
    assert Patience().threads == 8


# The journal: what is there is not asked again


def test_a_second_run_asks_nothing_and_needs_no_server(judge, journal, monkeypatch):
    first, content = ask(journal), journal.read_bytes()
    monkeypatch.delenv(URL)
    assert ask(journal) == first
    assert journal.read_bytes() == content and len(judge.requests) == len(ASKED)


def test_a_changed_prompt_or_judge_is_asked_anew(judge, journal, monkeypatch):
    ask(journal, ASKED[:2])
    judge.say = lambda prompt: "[[2]]"
    changed = Question(1, 2, "rate 1/2, another answer")
    assert ask(journal, [ASKED[0], changed]) == [7, 2]
    monkeypatch.setenv(MODEL, "gpt-4o")
    assert ask(journal, ASKED[:2]) == [2, 2]
    monkeypatch.setenv(MODEL, "gpt-4")
    assert ask(journal, ASKED[:2]) == [7, 7]
    assert len(judge.requests) == len(lines(journal)) == 5


def test_one_prompt_for_two_questions_is_asked_once(judge, journal):
    twins = [Question(1, 1, "the same"), Question(2, 1, "the same")]
    assert ask(journal, twins) == [7, 7] and len(judge.requests) == 1


TORN = [b'{"question": 3, "tu', b"\x00\x00\x00", b"{}", b"[1]", b'"x"', b"\xff\n", b"not json\n", b"\n"]


@pytest.mark.parametrize("torn", TORN)
def test_a_damaged_line_is_dropped_and_asked_again(judge, journal, torn):
    ask(journal, ASKED[:2], SLOWLY)
    with open(journal, "ab") as file:
        file.write(torn)
    judge.say = lambda prompt: "[[3]]"
    assert ask(journal, ASKED[:3], SLOWLY) == [7, 7, 3]
    assert ask(journal, ASKED[:3], SLOWLY) == [7, 7, 3]
    assert len(judge.requests) == 3


def test_a_line_torn_anywhere_costs_only_itself(judge, journal):
    """As a kill within the last write leaves it."""
    ask(journal, ASKED[:2], SLOWLY)
    whole = journal.read_bytes()
    first = whole.index(b"\n") + 1
    for length in range(first, len(whole)):
        journal.write_bytes(whole[:length])
        judge.requests = []
        assert ask(journal, ASKED[:2], SLOWLY) == [7, 7]
        assert judge.counts() == {"rate 1/2": 1}, length


def test_a_rating_that_is_none_is_not_taken_from_the_journal(judge, journal):
    ask(journal, ASKED[:1])
    for bad in ("42", "0", '"7"', "NaN", "null"):
        journal.write_text(journal.read_text().splitlines()[0].replace('"rating": 7.0', f'"rating": {bad}') + "\n")
        judge.requests = []
        assert ask(journal, ASKED[:1]) == [7]
        assert len(judge.requests) == 1, bad
        journal.write_text(journal.read_text().splitlines()[-1] + "\n")


KILLED = """
import signal, sys
from pissa_repro.grading.judge import Question, judge_all, keeping
from pissa_repro.grading.judge.endpoint import Patience
def interrupted(*_):
    print("interrupted", flush=True)
    raise KeyboardInterrupt
signal.signal(signal.SIGINT, interrupted)
with keeping(sys.argv[1]):
    judge_all([Question(n, 1, f"rate {n}") for n in range(1, 11)], Patience(threads=int(sys.argv[2])))
"""


@pytest.mark.parametrize(("threads", "kill"), [(1, signal.SIGKILL), (4, signal.SIGKILL), (4, signal.SIGTERM)])
def test_killed_in_the_middle_it_goes_on_where_it_was(judge, journal, threads, kill):
    """Six are answered; the next hang, and the process is killed. Only those under way are asked twice."""
    hanging = threading.Event()
    judge.say = lambda prompt: f"[[{prompt[5:]}]]" if int(prompt[5:]) <= 6 or hanging.wait(300) else ""
    command = [sys.executable, "-c", KILLED, str(journal), str(threads)]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        wait_for(lambda: journal.exists() and len(lines(journal)) == 6 and judge.busy == threads)
    finally:
        process.send_signal(kill)
        process.wait()
    under_way = set(judge.counts()) - {f"rate {number}" for number in range(1, 7)}
    hanging.set()
    ten = [Question(number, 1, f"rate {number}") for number in range(1, 11)]
    assert ask(journal, ten) == list(range(1, 11))
    assert len(under_way) == threads
    assert judge.counts() == {one.prompt: 1 + (one.prompt in under_way) for one in ten}
    assert sorted(line["question"] for line in lines(journal)) == list(range(1, 11))


def interrupt(journal, when):
    """A process that asks with two threads and gets Ctrl-C when it has come to that; it has noticed it."""
    command = [sys.executable, "-c", KILLED, str(journal), "2"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        wait_for(when)
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == b"interrupted\n"
    except BaseException:
        process.kill()
        raise
    return process


def ended(process):
    """The last line that the process says on its way out."""
    try:
        return process.communicate(timeout=60)[1].splitlines()[-1]
    finally:
        process.kill()


def test_ctrl_c_keeps_what_is_under_way(judge, journal):
    judge.hold = threading.Event()
    process = interrupt(journal, lambda: judge.busy == 2)
    time.sleep(0.2)
    judge.hold.set()
    assert ended(process) == b"KeyboardInterrupt"
    assert 2 <= len(lines(journal)) == len(judge.requests) < 10


def test_ctrl_c_does_not_wait_for_a_server_that_says_later(judge, journal):
    judge.say = lambda prompt: error(429, "slow down", Retry_After="250")
    process = interrupt(journal, lambda: len(judge.requests) == 2)
    assert ended(process) == b"KeyboardInterrupt"
    assert len(judge.requests) <= 4


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


def test_two_processes_do_not_share_a_journal(judge, journal):
    judge.hold = threading.Event()
    command = [sys.executable, "-c", KILLED, str(journal), "2"]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        wait_for(lambda: judge.busy == 2)
        with pytest.raises(UserError, match=f"{journal}: another process is keeping judgements in it"):
            ask(journal)
        judge.hold.set()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    assert len(judge.requests) == len(lines(journal)) == 10
    assert ask(journal) == [7] * 6, "its end did not unlock the journal"


FULL = """
import resource, sys
from pissa_repro.grading.judge import Question, judge_all, keeping
from pissa_repro.grading.judge.endpoint import Patience
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
with keeping(sys.argv[1]):
    judge_all([Question(n, 1, f"rate {n}") for n in range(1, 11)], Patience(threads=1))
"""


def test_a_journal_that_cannot_be_written_stops_it(judge, journal):
    """As on a full disk."""
    done = subprocess.run([sys.executable, "-c", FULL, str(journal)], cwd=ROOT, stderr=subprocess.PIPE, timeout=120)
    said = done.stderr.decode().splitlines()[-1]
    assert "File too large" in said and str(journal) in said
    assert 1 <= len(judge.requests) <= 2, "it went on asking for what it could not keep"


def test_without_a_journal_nothing_is_asked(judge):
    with pytest.raises(RuntimeError, match="no journal"):
        judge_all(ASKED, QUICK)
    assert not judge.requests


def test_the_journal_is_closed_again(judge, journal):
    ask(journal)
    with pytest.raises(RuntimeError, match="no journal"):
        rating("rate 1/1")
    assert summary() is None
