"""Which judge to ask and how patiently: what the environment says. The key never leaves an Endpoint but to be sent."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

from pissa_repro.runtime.errors import UserError

if TYPE_CHECKING:
    import requests

URL, MODEL, KEY = "PISSA_REPRO_JUDGE_URL", "PISSA_REPRO_JUDGE_MODEL", "PISSA_REPRO_JUDGE_KEY"
THREADS, TIMEOUT = "PISSA_REPRO_JUDGE_THREADS", "PISSA_REPRO_JUDGE_TIMEOUT"
NO_ADDRESS = (
    f"{URL}: not a base address such as https://host/v1 (http or https; no user, no '?', no '#'; "
    f"a key belongs into {KEY})."
)
SECRET = 8  # characters: a shorter key is a placeholder such as EMPTY; hiding it would maim ordinary words


@dataclass(frozen=True)
class Patience:
    """How long and how often to try: seconds and counts."""

    timeout: float = 300.0  # for a reply; connecting has ten seconds at most
    tries: int = 6  # more requests after a refused connection, 429 or 5xx
    late: int = 2  # more requests after a reply that did not come in time
    backoff: float = 1.0  # seconds; doubles from try to try
    longest: float = 300.0  # the longest wait that a Retry-After can ask for
    asks: int = 3  # questions put to a judge that answers without a rating
    threads: int = 8

    @classmethod
    def from_environment(cls) -> "Patience":
        """PISSA_REPRO_JUDGE_THREADS and PISSA_REPRO_JUDGE_TIMEOUT (seconds) over the defaults."""
        return cls(threads=int(_positive(THREADS, cls.threads, int)), timeout=_positive(TIMEOUT, cls.timeout, float))


def _positive(name: str, default: float, kind: Callable[[str], float]) -> float:
    word = os.environ.get(name, "").strip() or str(default)
    try:
        if 0 < kind(word) < 1e6:
            return kind(word)
    except ValueError:
        pass
    raise UserError(f"{name}: '{word}' is not a positive {'number' if kind is float else 'whole number'}.")


@dataclass(frozen=True)
class Endpoint:
    """Where the judge is. url ends in /v1; an empty key sends none."""

    url: str
    model: str
    key: str = field(default="", repr=False)

    @property
    def host(self) -> str:
        """The host's name, and nothing else of the address: the rest may hold secrets."""
        return urlsplit(self.url).hostname or "?"

    def hide(self, text: str) -> str:
        """The text without the key."""
        return text.replace(self.key, "***") if len(self.key) >= SECRET else text

    def sign(self, request: "requests.PreparedRequest") -> "requests.PreparedRequest":
        """Add the key. Given as `auth`, because requests would otherwise look for another one in ~/.netrc."""
        if self.key:
            request.headers["Authorization"] = f"Bearer {self.key}"
        return request


def model_name() -> str:
    """The judge's model. Raises UserError that says how to name a judge."""
    return os.environ.get(MODEL, "").strip() or _unset()


def endpoint() -> Endpoint:
    """The judge of the environment. Raises UserError for none, or for an unusable address or key."""
    url, key = os.environ.get(URL, "").strip().rstrip("/") or _unset(), os.environ.get(KEY, "").strip()
    if not _usable(url):
        raise UserError(NO_ADDRESS)
    if not re.fullmatch(r"[!-~]*", key):
        raise UserError(f"{KEY}: holds a blank, a line end or a character outside ASCII; no key does.")
    return Endpoint(url, model_name(), key)


def _usable(url: str) -> bool:
    try:
        parts = urlsplit(url)
        served = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # half an IPv6 address, a port that is no number
        return False
    return bool(served) and not ("@" in parts.netloc or parts.query or parts.fragment)


def _unset() -> NoReturn:
    raise UserError(
        f"there is no judge. The generations are kept. Set {URL} (an OpenAI-compatible base address that ends in "
        f"/v1), {MODEL} and, where the server wants one, {KEY}; then run the same command to go on."
    )
