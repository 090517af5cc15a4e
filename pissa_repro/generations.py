"""What a model generated, kept item by item: one file a cell and task, which a killed run goes on with.

A JSON-lines file. Its first line says what it was made from; then come the runs that worked on it
and the items, each as {"id", "turn", "generated", "tokens", "seconds"}, written to disk batch by batch.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pissa_repro.errors import UserError


class Generations:
    """The content of such a file. turns: {item: what was generated for it, a turn an entry}."""

    def __init__(self, path: Path, lines: list[dict[str, Any]]):
        self.path = path
        self.origin: dict[str, Any] = lines[0] if lines else {}
        self.runs = [line["run"] for line in lines if "run" in line]
        self.turns: dict[int, list[Any]] = {}
        self.tokens, self.seconds = 0, 0.0
        for line in lines[1:]:
            if "id" in line:
                self._count(line)

    def _count(self, line: dict[str, Any]) -> None:
        self.turns.setdefault(line["id"], []).append(line["generated"])
        self.tokens += line["tokens"]
        self.seconds += line["seconds"]

    def pending(self, ids: list[int], turn: int) -> list[int]:
        """Those of the items that have no generation of this turn yet."""
        return [i for i in ids if len(self.turns.get(i, ())) <= turn]


class Journal(Generations):
    """Generations that are being written. Made by `journal`."""

    def __init__(self, path: Path, lines: list[dict[str, Any]], handle: int):
        super().__init__(path, lines)
        self._handle = handle

    def begin(self, run: dict[str, Any]) -> None:
        """Note the run that makes the items from here on: versions, commit, hardware, checks."""
        self._write([{"run": run}])
        self.runs.append(run)

    def add(self, lines: list[dict[str, Any]]) -> None:
        """Keep the items of a batch; they are on disk when this returns."""
        self._write(lines)
        for line in lines:
            self._count(line)

    def _write(self, lines: list[dict[str, Any]]) -> None:
        text = "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)
        data, start = text.encode(), os.lseek(self._handle, 0, os.SEEK_END)
        try:
            while data:
                data = data[os.write(self._handle, data) :]
            os.fsync(self._handle)
        except OSError as error:
            os.ftruncate(self._handle, start)  # a full disk must not leave half a line
            raise OSError(error.errno, error.strerror, str(self.path)) from None


@contextmanager
def journal(path: Path, origin: dict[str, Any]) -> Iterator[Journal]:
    """Open a file of generations to go on with it; one that was made from something else is begun anew.

    Raises UserError when another process is writing it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _lock(handle, path)
        lines = _whole_lines(path)
        fresh = not lines or lines[0] != json.loads(json.dumps(origin))
        os.ftruncate(handle, 0 if fresh else sum(size for _, size in _sized(path)))
        found = Journal(path, [] if fresh else lines, handle)
        if fresh:
            found._write([origin])
            found.origin = origin
        yield found
    finally:
        os.close(handle)


def _lock(handle: int, path: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"{path}: another process is generating into it. Wait for it, or stop it.") from None


def read(path: Path) -> Generations:
    """The generations at `path`. Raises UserError when there are none."""
    lines = _whole_lines(path) if path.is_file() else []
    if not lines:
        raise UserError(f"{path}: no generations. Run the generate stage of this cell (README, 'Scoring').")
    return Generations(path, lines)


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    return [line for line, _ in _sized(path)]


def _sized(path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """Each line with its bytes, up to the first that is not whole: a kill may cut the last one."""
    with open(path, "rb") as file:
        for raw in file:
            try:
                line = json.loads(raw) if raw.endswith(b"\n") else None
            except ValueError:
                line = None
            if not isinstance(line, dict):
                return
            yield line, len(raw)
