"""What the end of a job's log tells: that it failed, that it was stopped, or how far it is."""

import os
import re
from pathlib import Path
from typing import NamedTuple

from pissa_repro.runtime.errors import INTERRUPTED
from pissa_repro.runtime.progress import LEFT

TAIL = 16_384  # bytes that are read of a log's end
LONGEST = 300  # characters of a line that are shown
ERROR = re.compile(r"(\S+: )?error: ")  # of run_stage, and of argparse with the stage in front
TRACEBACK = "Traceback (most recent call last):"


class End(NamedTuple):
    """The end of a log. state: failed, stopped, or empty where it says neither. written: seconds since the epoch.

    left: seconds that the work needs by its own last word; None where it says nothing of that.
    """

    state: str
    line: str
    written: float
    left: float | None


def end_of(path: Path) -> End | None:
    """The end of a job's log; None where there is none, or it cannot be read."""
    try:
        with open(path, "rb") as file:
            size, written = os.fstat(file.fileno()).st_size, os.fstat(file.fileno()).st_mtime
            file.seek(max(0, size - TAIL))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return None
    lines = [line.strip() for line in text.splitlines() if line.strip()]  # a bar's \r ends a line, too
    if not lines:
        return End("", "", written, None)
    state, line = _told(lines)
    left = LEFT.search(line)
    return End(state, shown(line), written, float(left[1]) if left else None)


def _told(lines: list[str]) -> tuple[str, str]:
    """What the last lines tell: failed, stopped or nothing; and the line that says it best."""
    for line in reversed(lines):  # a launcher of several processes says more after the error of one
        if ERROR.match(line):
            return "failed", line
    if lines[-1] == INTERRUPTED:
        return "stopped", lines[-1]
    return ("failed" if TRACEBACK in lines else ""), lines[-1]


def shown(line: str) -> str:
    """A line of anybody's, fit for a terminal."""
    plain = "".join(letter if letter.isprintable() else " " for letter in line)
    return plain if len(plain) <= LONGEST else plain[: LONGEST - 1] + "…"
