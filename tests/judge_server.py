"""A judge on 127.0.0.1 that speaks OpenAI's chat-completions protocol over HTTP, and misbehaves as told.

Replies are scripted: `judge.script` holds what the next requests get, in order; after that, and without it, `judge.say`
answers. Every request is kept for the tests to count.
"""

import contextlib
import json
import socket
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from local_server import SilentHandler, serving

from pissa_repro.grading.judge.endpoint import KEY, MODEL, THREADS, TIMEOUT, URL


@dataclass
class Raw:
    """A reply that is not a judgement: any status, headers and body; stall: seconds before it comes;
    cut: bytes of the body after which the connection breaks."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    stall: float = 0.0
    cut: int | None = None


@dataclass
class Request:
    """One request as it came."""

    path: str
    key: str | None
    body: dict

    @property
    def prompt(self) -> str:
        """The first message: the judge's prompt."""
        return self.body["messages"][0]["content"]


def error(status: int, message: str = "", **headers: str) -> Raw:
    """An error as OpenAI's servers word it. Headers: Retry_After="1"."""
    body = json.dumps({"error": {"message": message, "type": "error"}}).encode()
    return Raw(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


@dataclass
class Judge:
    """The server. say: the reply to a prompt, a text or a Raw."""

    say: Callable[[str], "str | Raw"] = lambda prompt: "Fine.\nRating: [[7]]"
    script: list["str | Raw"] = field(default_factory=list)
    key: str | None = None  # the only key that is let in
    tokens: tuple[int, int] | None = (100, 20)
    hold: threading.Event | None = None  # every request waits for it
    requests: list[Request] = field(default_factory=list)
    busy: int = 0
    busiest: int = 0  # requests at the same time
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""

    def counts(self) -> Counter:
        """How often each prompt was asked."""
        return Counter(request.prompt for request in self.requests)

    def reply(self, request: Request) -> "str | Raw":
        """What this request gets."""
        with self.lock:
            self.requests.append(request)
            self.busy += 1
            self.busiest = max(self.busy, self.busiest)
            scripted = self.script.pop(0) if self.script else None
        if self.hold:
            self.hold.wait(300)
        if self.key is not None and request.key != self.key:
            return error(401, f"Incorrect API key provided: {request.key}.")
        return self.say(request.prompt) if scripted is None else scripted


@contextlib.contextmanager
def running(judge: Judge):
    """Serve `judge` in threads; judge.url is its base address."""
    with serving(Handler, judge=judge) as address:
        judge.url = f"{address}/v1"
        try:
            yield judge
        finally:
            if judge.hold:
                judge.hold.set()


def point_at(monkeypatch, url: str, key: str | None = None) -> None:
    """Name this judge in the environment, and nothing else about judging."""
    for name in (KEY, THREADS, TIMEOUT):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(URL, url)
    monkeypatch.setenv(MODEL, "gpt-4")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    if key:
        monkeypatch.setenv(KEY, key)


@contextlib.contextmanager
def closed_port():
    """A port that refuses connections, and that nobody else can listen on meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


class Handler(SilentHandler):
    judge: Judge

    def do_GET(self):
        self.answer(error(405, "Method not allowed"))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        request = Request(self.path, key, body)
        if self.path != "/v1/chat/completions":
            return self.answer(error(404, "Not found"))
        try:
            said = self.judge.reply(request)
            if isinstance(said, Raw) and said.stall:
                threading.Event().wait(said.stall)
        finally:
            with self.judge.lock:
                self.judge.busy -= 1
        return self.answer(said if isinstance(said, Raw) else self.completion(said, body["model"]))

    def completion(self, text: str, model: str) -> Raw:
        """A chat completion with this text, as such servers write it."""
        value = {
            "id": "chatcmpl-0", "object": "chat.completion", "created": 0, "model": f"{model}-0613",
            "choices": [
                {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}},
            ],
        }  # fmt: skip
        if self.judge.tokens:
            prompt, completion = self.judge.tokens
            value["usage"] = {"prompt_tokens": prompt, "completion_tokens": completion}
        return Raw(body=json.dumps(value).encode(), headers={"Content-Type": "application/json"})

    def answer(self, raw: Raw):
        """Send it; nothing happens if the client has gone."""
        with contextlib.suppress(ConnectionError):
            self.send_response(raw.status)
            for name, value in {"Content-Length": str(len(raw.body)), **raw.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw.body[: raw.cut])
            self.wfile.flush()
        if raw.cut is not None:
            self.close_connection = True
