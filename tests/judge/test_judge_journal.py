"""The journal: what the judge has said is not asked again, also after a kill."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from asking import ASKED, QUICK, SLOWLY, ask, lines, wait_for
from judge_server import error

from pissa_repro.grading.judge import Question, judge_all, rating, summary
from pissa_repro.grading.judge.endpoint import MODEL, URL
from pissa_repro.plan.config import ROOT
from pissa_repro.runtime.errors import UserError


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
        journal.write_text(
            journal.read_text(encoding="utf-8").splitlines()[0].replace('"rating": 7.0', f'"rating": {bad}') + "\n",
            encoding="utf-8",
        )
        judge.requests = []
        assert ask(journal, ASKED[:1]) == [7]
        assert len(judge.requests) == 1, bad
        journal.write_text(journal.read_text(encoding="utf-8").splitlines()[-1] + "\n", encoding="utf-8")


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
    assert len(judge.requests) == 1, "it went on asking for what it could not keep"


def test_without_a_journal_nothing_is_asked(judge):
    with pytest.raises(RuntimeError, match="no journal"):
        judge_all(ASKED, QUICK)
    assert not judge.requests


def test_the_journal_is_closed_again(judge, journal):
    ask(journal)
    with pytest.raises(RuntimeError, match="no journal"):
        rating("rate 1/1")
    assert summary() is None
