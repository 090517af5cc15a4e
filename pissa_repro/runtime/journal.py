"""A JSON-lines file that grows while work is done: locked, on disk at once, never with half a line."""

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pissa_repro.runtime.lock import alone


class JournalFile:
    """A journal that is open for writing. Made by `open_journal`."""

    def __init__(self, path: Path, descriptor: int):
        self.path, self._descriptor = path, descriptor

    def append(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Add lines; they are on disk when this returns. Raises OSError, and then none of them is in the file."""
        text = "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)
        # backslashreplace: half a surrogate pair, which JSON can carry and UTF-8 cannot, becomes its JSON escape.
        data, size = text.encode("utf-8", "backslashreplace"), os.fstat(self._descriptor).st_size
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
            os.fsync(self._descriptor)
        except OSError as error:
            self.cut(size)  # a full disk must not leave half a line, to which the next would be joined
            raise OSError(error.errno, error.strerror, str(self.path)) from None

    def cut(self, size: int) -> None:
        """Keep the first `size` bytes only."""
        os.ftruncate(self._descriptor, size)

    def end_line(self) -> None:
        """End a line that a kill left unfinished, so that the next one is not joined to it."""
        os.write(self._descriptor, b"\n")


@contextlib.contextmanager
def open_journal(path: Path, work: str) -> Iterator[JournalFile]:
    """Open the file at `path` to append to it; its folder is made. work: what another process that has it is doing.

    Raises UserError while another process has it open, and OSError.
    """
    with alone(path, work):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            yield JournalFile(path, descriptor)
        finally:
            os.close(descriptor)
