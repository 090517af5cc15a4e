"""What a reply may take, however it comes: seconds from its request to its last byte, and bytes.

The timeouts of requests are for one read of the socket each, so a server that sends a byte now and then holds a
client for good, in the headers as in the body.
"""

import io
import time
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.exceptions import ReadTimeoutError

LARGEST = 4 << 20  # bytes of a reply; a judgement has some thousands
CHUNK = 1 << 16


class TooLarge(requests.RequestException):
    """A reply of more than LARGEST bytes."""


class Late(requests.Timeout):
    """A reply whose headers came in time, and whose body did not."""


class Socket:
    """A connected socket whose file for reading ends with a TimeoutError once the time for the reply is over."""

    def __init__(self, inner: Any, seconds: float):
        self.inner, self.seconds = inner, seconds
        self.begin()

    def begin(self) -> None:
        """A new reply is asked for."""
        self.end, self.received = time.monotonic() + self.seconds, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def makefile(self, mode: str) -> io.BufferedReader:
        """As http.client asks for it, which reads a reply through this alone."""
        return io.BufferedReader(Reader(self, self.inner.makefile(mode, buffering=0)))


class Reader(io.RawIOBase):
    """What comes over such a socket."""

    def __init__(self, of: Socket, raw: io.RawIOBase):
        self.of, self.raw = of, raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self.of.end - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        if self.of.received > 2 * LARGEST:  # where nobody counts: headers, pages before another try
            raise ConnectionAbortedError("too large")
        self.of.inner.settimeout(left)
        count: int | None = self.raw.readinto(buffer)
        self.of.received += count or 0
        return count

    def close(self) -> None:
        self.raw.close()
        super().close()


def punctual(kind: type[HTTPConnection], seconds: float) -> type[HTTPConnection]:
    """That kind of connection, with so much time for every reply."""

    class Punctual(kind):  # type: ignore[misc, valid-type]
        def connect(self) -> None:
            super().connect()
            self.sock: Any = Socket(self.sock, seconds)

        def request(self, *arguments: Any, **named: Any) -> None:
            if self.sock:  # an open connection is used again
                self.sock.begin()
            super().request(*arguments, **named)

    return Punctual


class Adapter(HTTPAdapter):
    """An adapter whose replies have that many seconds each."""

    def __init__(self, seconds: float, **named: Any):
        self.seconds = seconds
        super().__init__(**named)

    def get_connection_with_tls_context(self, *arguments: Any, **named: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*arguments, **named)
        if "ConnectionCls" not in vars(pool):
            pool.ConnectionCls = punctual(pool.ConnectionCls, self.seconds)
        return pool


def body(response: requests.Response) -> bytes:
    """The whole body of a streamed response. Raises TooLarge, Late, or another error of requests."""
    parts: list[bytes] = []
    size = 0
    try:
        for part in response.iter_content(CHUNK):
            parts.append(part)
            size += len(part)
            if size > LARGEST:
                raise TooLarge
    except requests.ConnectionError as error:
        if error.args and isinstance(error.args[0], ReadTimeoutError):
            raise Late from None
        raise
    finally:
        response.close()
    return b"".join(parts)
