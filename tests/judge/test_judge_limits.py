"""Case 19: what a judge's reply may take: time as a whole, bytes, and steps to read the rating."""

import contextlib
import json
import random
import re
import socket
import threading
import time
import zlib

import pytest
from asking import ASKED, SLOWLY, ask, fails, lines
from judge_server import Raw, error, point_at

from pissa_repro.grading.judge.client import rating_in
from pissa_repro.grading.judge.endpoint import TIMEOUT, Patience

HASTY = Patience(timeout=1.0, tries=3, late=1, backoff=0.01, threads=1)
DRIP = 12.0  # seconds that a reply goes on, each byte of which is in time


def completion(text):
    return json.dumps({"choices": [{"message": {"content": text}}]}).encode()


def head(status, length):
    return f"HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n".encode()


class Bare:
    """A server below HTTP: to each request it sends the next of `replies`, a function of the connection."""

    def __init__(self, *replies):
        self.replies, self.sent, self.asked = [*replies], 0, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/v1"
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with contextlib.suppress(OSError):  # the listener is closed
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=self.answer, args=(connection,), daemon=True).start()

    @staticmethod
    def receive(connection, read, enough):
        """All of a request: what is left unread would break its reply off."""
        while not enough(read) and (part := connection.recv(1 << 16)):
            read += part
        return read

    def answer(self, connection):
        with connection, contextlib.suppress(OSError):
            head, _, body = self.receive(connection, b"", lambda read: b"\r\n\r\n" in read).partition(b"\r\n\r\n")
            length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
            self.receive(connection, body, lambda read: len(read) >= length)
            self.asked += 1
            reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
            for part in reply():
                connection.sendall(part)
                self.sent += len(part)


def rated():
    yield head(200, len(completion("[[7]]"))) + completion("[[7]]")


def dripping(before, byte):
    """A reply of which a byte comes every tenth of a second, after `before`."""

    def reply():
        yield before
        for _ in range(int(DRIP * 10)):
            time.sleep(0.1)
            yield byte

    return reply


def endless(status):
    def reply():
        yield head(status, 1 << 40)
        for _ in range(64):
            yield b" " * (1 << 20)

    return reply


@pytest.fixture
def bare(monkeypatch):
    """Makes a Bare server that the environment names."""
    made = []

    def make(*replies):
        made.append(Bare(*replies))
        point_at(monkeypatch, made[-1].url)
        return made[-1]

    yield make
    for server in made:
        server.listener.close()


DRIPS = {
    "headers": dripping(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x"),
    "body": dripping(head(200, 1 << 20), b" "),
    "page of a 503": dripping(head(503, 1 << 20), b" "),
}


@pytest.mark.parametrize("name", DRIPS)
def test_one_deadline_for_the_whole_reply(name, bare, journal):
    """Case 19: a byte now and then does not begin the time anew; the question is put again."""
    server, began = bare(DRIPS[name], rated), time.monotonic()
    assert ask(journal, ASKED[:1], HASTY) == [7]
    assert time.monotonic() - began < DRIP / 2
    assert server.asked == 2


@pytest.mark.parametrize("name", ["headers", "body"])
def test_replies_that_never_end_say_which_limit_they_met(name, bare, journal):
    """Case 19: after `late` more tries the judge is taken to be down."""
    server, began = bare(DRIPS[name]), time.monotonic()
    said = fails(journal, ASKED[:1], HASTY)
    assert f"nothing within 1 s; {TIMEOUT} allows more" in said
    assert server.asked == 2 and time.monotonic() - began < DRIP / 2


@pytest.mark.parametrize("status", [200, 503])
def test_an_endless_reply_is_not_read(status, bare, journal):
    """Case 19: its first megabytes are enough, also of a page that only says to come back later."""
    server = bare(endless(status), rated)
    assert ask(journal, ASKED[:1], SLOWLY) == [7]
    assert server.sent < 32 << 20


def test_a_reply_of_many_megabytes_is_no_judgement(judge, journal):
    """Case 19: plain, or packed into few bytes."""
    whole = completion("[[9]]" + " " * (5 << 20))
    packed = zlib.compress(whole)
    assert len(packed) < 1 << 16
    judge.script = [Raw(body=whole), Raw(body=packed, headers={"Content-Encoding": "deflate"})]
    assert ask(journal, ASKED[:1], SLOWLY) == [7]
    assert lines(journal)[0]["earlier"] == ["(a reply of more than 4 MiB)"] * 2


@pytest.mark.parametrize(
    "text", ["[[" + "9" * 200_000, "[" + "9" * 200_000 + ".", "[[1." + "9" * 200_000, "[" * 200_000]
)
def test_a_rating_is_found_in_linear_time(text):
    """Case 19: 200,000 digits without an end."""
    began = time.monotonic()
    assert rating_in(text) is None
    assert time.monotonic() - began < 2


def test_the_rating_is_that_of_the_published_patterns():
    """Case 19: FastChat's patterns, digit for digit, on 20,000 texts of the characters that matter."""
    draw = random.Random(19)
    for _ in range(20_000):
        text = "".join(draw.choices("[[[]]]1790.. -x", k=draw.randrange(1, 16)))
        found = next(
            filter(None, (re.search(form, text) for form in (r"\[\[(\d+\.?\d*)\]\]", r"\[(\d+\.?\d*)\]"))), None
        )
        value = float(found[1]) if found else None
        assert rating_in(text) == (value if value is not None and 1 <= value <= 10 else None), text


RETRY_AFTER = [
    "soon", "-5", "1.5", "1, 2", "nan", "1e400", " ", "9" * 30, "9" * 5000, "0", "\xff\xfe",
    "Thu, 99 Foo 99999 99:99:99 GMT",
    "Mon, 01 Jan 0000 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "Sun, 06 Nov 1994 08:49:37 GMT", "Mon", ", , ,",
    "Fri, 31 Dec 999999999999 23:59:59 +9999",
]  # fmt: skip


@pytest.mark.parametrize("value", RETRY_AFTER, ids=lambda value: repr(value[:24]))
def test_any_retry_after_is_survived(judge, journal, value):
    """Case 19: what it says is waited for up to a limit; what says nothing is no reason to stop."""
    judge.script = [error(429, "slow down", Retry_After=value)]
    assert ask(journal, ASKED[:1], Patience(timeout=5.0, backoff=0.01, longest=0.05, threads=1)) == [7]
    assert len(judge.requests) == 2


def test_a_refusal_nested_without_end_is_told(judge, journal):
    """Case 19: its page is shown as it is."""
    judge.script = [Raw(401, body=b"[" * 100_000)]
    assert "HTTP 401" in fails(journal, ASKED[:1])
