"""One judge over HTTP: any server that speaks OpenAI's chat-completions protocol. judge/__init__.py asks through this.

The key is sent, and goes nowhere else: messages name the host only, and what a server says is searched for it.
"""

import json
import re
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from pissa_repro.grading.judge.endpoint import KEY, NO_ADDRESS, THREADS, TIMEOUT, URL, Endpoint, Patience
from pissa_repro.runtime.errors import UserError

if TYPE_CHECKING:
    import requests

MAX_TOKENS = 2048  # of a judgement, as FastChat's llm_judge/common.py asks for
REMINDER = "That reply holds no rating from 1 to 10. Give it now, in this form and with nothing else: [[n]]"
# FastChat's llm_judge/common.py: the first number in double brackets, else the first in single ones. Its \d+\.?\d*
# is written so that no digit is tried twice: that one takes quadratic time in a long row of digits.
RATINGS = [re.compile(form, re.ASCII) for form in (r"\[\[(\d++(?:\.\d*+)?)\]\]", r"\[(\d++(?:\.\d*+)?)\]")]


class Judgement(TypedDict):
    """What a judge said to one question: `judgement` makes it."""

    rating: float | None
    text: str
    earlier: list[str]
    answered_by: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    seconds: float


class NoRating(UserError):
    """A question without a rating. record: what the judge said on the way, as judgement() returns it, rating None."""

    record: Judgement | None = None


class Down(NoRating):
    """The endpoint does not serve: asking it anything else is of no use."""


class Unrated(NoRating):
    """This one question got no rating; others may."""


class Stopped(NoRating):
    """The run ends, so that this question is not waited for."""


@dataclass(frozen=True)
class Reply:
    """What came back. proper: it is a chat completion; otherwise text is the page that came instead."""

    text: str
    proper: bool
    model: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


@dataclass(frozen=True)
class Connection:
    """To whom one question goes, how patiently, and what its errors begin with."""

    judge: Endpoint
    patience: Patience
    stop: threading.Event
    place: str
    http: "requests.Session"


def rating_in(text: str) -> float | None:
    """The rating by the published rule (RATINGS); None where there is none, or one outside 1..10."""
    match = next(filter(None, (form.search(text) for form in RATINGS)), None)
    rating = float(match[1]) if match else None
    return rating if rating is not None and 1 <= rating <= 10 else None


def session(patience: Patience, stop: threading.Event) -> "requests.Session":
    """A session that waits and asks again after a refused connection, a late reply, 429 (its Retry-After) or 5xx.

    A Retry-After that cannot be read is none. Once `stop` is set it waits no longer: Stopped.
    """
    import requests
    from urllib3.util import Retry

    from pissa_repro.grading.judge.deadline import Adapter

    class Waiting(Retry):
        def sleep(self, response: Any = None) -> None:
            asked_for = self.get_retry_after(response) if response else None
            wait(asked_for or self.get_backoff_time(), stop)

        def get_retry_after(self, response: Any) -> float | None:
            try:
                return super().get_retry_after(response)
            except Exception:  # a server writes there what it likes; dates alone fail in many ways
                return None

    retry = Waiting(
        patience.tries, read=patience.late, backoff_factor=patience.backoff, backoff_jitter=patience.backoff,
        status_forcelist=(408, 429, 500, 502, 503, 504, 529), allowed_methods=("POST",), raise_on_status=False,
        retry_after_max=patience.longest,  # type: ignore[arg-type]  # declared as int, compared as a number
    )  # fmt: skip
    opened = requests.Session()
    for scheme in ("http://", "https://"):
        opened.mount(scheme, Adapter(patience.timeout, max_retries=retry))
    return opened


def wait(seconds: float, stop: threading.Event) -> None:
    """Wait so long. Raises Stopped as soon as `stop` is set."""
    if stop.wait(seconds):
        raise Stopped("the run ends")


def judgement(judge: Endpoint, prompt: str, place: str, patience: Patience, stop: threading.Event) -> Judgement:
    """Ask until there is a rating: rating (1..10), text (the whole reply), earlier (replies without a rating),
    answered_by (the model as the server names it), prompt_tokens, completion_tokens (None where not told), seconds.

    Raises Down or Unrated, whose messages begin with `place`, or Stopped once `stop` is set and it would have to wait;
    their record holds what was said.
    """
    began = time.monotonic()
    replies: list[Reply] = []
    try:
        with session(patience, stop) as http:
            rating = _ask(Connection(judge, patience, stop, place, http), prompt, replies)
    except NoRating as error:
        error.record = _record(None, replies, began) if replies else None
        raise
    return _record(rating, replies, began)


def _ask(to: Connection, prompt: str, replies: list[Reply]) -> float:
    """The rating; every reply is added to `replies`."""
    question = messages = [{"role": "user", "content": prompt}]
    for ask in range(1, to.patience.asks + 1):
        reply = _post(to, messages)
        replies.append(reply)
        rating = rating_in(reply.text) if reply.proper else None
        if rating is not None:
            return rating
        messages = question
        if reply.proper and reply.text.strip():
            # At temperature 0 the same question would bring the same words, so the judge is shown its own.
            messages = [*question, {"role": "assistant", "content": reply.text}, {"role": "user", "content": REMINDER}]
        elif ask < to.patience.asks:  # a gateway's page, or nothing: give it a moment
            wait(to.patience.backoff * ask, to.stop)
    what = "no rating from 1 to 10" if reply.proper else "nothing that is a chat completion"
    raise Unrated(f"{to.place}: {what} in {len(replies)} replies. The last one: {reply.text[:200]!r}.")


def _record(rating: float | None, replies: list[Reply], began: float) -> Judgement:
    texts, names = [reply.text for reply in replies], [reply.model for reply in replies if reply.model]
    return {
        "rating": rating,
        "text": texts[-1],
        "earlier": texts[:-1],
        "answered_by": names[-1] if names else None,
        "prompt_tokens": _total(reply.prompt_tokens for reply in replies),
        "completion_tokens": _total(reply.completion_tokens for reply in replies),
        "seconds": round(time.monotonic() - began, 3),
    }


def _total(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _post(to: Connection, messages: list[dict[str, str]]) -> Reply:
    import requests
    from urllib3.exceptions import HTTPError, LocationValueError

    from pissa_repro.grading.judge.deadline import LARGEST, TooLarge

    judge = to.judge
    try:
        status, said = _exchange(to, messages)
    except TooLarge:
        return Reply(f"(a reply of more than {LARGEST >> 20} MiB)", proper=False)
    except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError):
        return Reply("(a reply that breaks off)", proper=False)
    except LocationValueError:  # found out only when the host is looked up: http://a..b/v1
        raise Down(NO_ADDRESS) from None
    except (requests.RequestException, HTTPError) as error:  # from None: its text holds the whole address
        raise Down(f"{to.place}: no answer ({_reason(error, to.patience)}).") from None
    content = judge.hide(said.decode("utf-8", "replace"))
    if status != 200:
        raise _refusal(status, content, judge, to.place)
    return _reply(content, judge)


def _exchange(to: Connection, messages: list[dict[str, str]]) -> tuple[int, bytes]:
    """Status and body of the reply; asked for again as often as `late` allows where its end does not come in time."""
    from pissa_repro.grading.judge.deadline import Late, body

    judge, patience = to.judge, to.patience
    asked = {"model": judge.model, "messages": messages, "temperature": 0, "max_tokens": MAX_TOKENS, "stream": False}
    for more in reversed(range(patience.late + 1)):
        response = to.http.post(
            judge.url + "/chat/completions", json=asked, auth=judge.sign, stream=True,
            timeout=(min(10.0, patience.timeout), patience.timeout), allow_redirects=False,
        )  # fmt: skip
        try:
            return response.status_code, body(response)
        except Late:
            if not more:
                raise
            wait(0.0, to.stop)
    raise AssertionError("the last time returns or raises")


def _reply(content: str, judge: Endpoint) -> Reply:
    """A chat completion's text, model and tokens; the first 2000 characters of anything else."""
    try:
        value = json.loads(content)
        text, usage, model = value["choices"][0]["message"]["content"], value.get("usage"), value.get("model")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return Reply(content[:2000], proper=False)
    counts = usage if isinstance(usage, dict) else {}
    tokens = [counts.get(name) for name in ("prompt_tokens", "completion_tokens")]
    # Hidden once more, because JSON may spell the key's characters in another way.
    return Reply(
        judge.hide(text) if isinstance(text, str) else "",
        True,
        judge.hide(model) if isinstance(model, str) else None,
        *(count if type(count) is int else None for count in tokens),
    )


def _reason(error: Exception, patience: Patience) -> str:
    """Why no reply came, without the address that the error's own text holds."""
    from requests.exceptions import Timeout
    from urllib3.exceptions import NameResolutionError, NewConnectionError, ReadTimeoutError

    inner = getattr(error.args[0], "reason", None) if error.args else None
    if isinstance(error, Timeout) or isinstance(inner, ReadTimeoutError):
        return f"nothing within {patience.timeout:g} s; {TIMEOUT} allows more"
    if isinstance(inner, NameResolutionError):
        return f"no such host; check {URL}"
    if isinstance(inner, NewConnectionError):
        return "the connection was refused"
    return type(inner or error).__name__


def _refusal(status: int, content: str, judge: Endpoint, place: str) -> NoRating:
    """The error for a status that no waiting mends. A refusal of one request only (too long, say) is Unrated."""
    try:
        said = judge.hide(str(json.loads(content)["error"]["message"]))
    except (ValueError, LookupError, TypeError, RecursionError):
        said = content
    hint = ""
    if status in (401, 403):
        hint = f" Check {KEY}."
    elif status == 429:
        hint = f" It refuses for its limit; {THREADS} below {Patience.threads} asks more slowly."
    elif status in (404, 405) or 300 <= status < 400:
        hint = f" Check that {URL} ends in /v1 and that the server knows the model '{judge.model}'."
    kind = Unrated if status in (400, 413, 422) else Down
    return kind(f"{place}: HTTP {status}.{hint} It says: {said[:200]!r}.")
