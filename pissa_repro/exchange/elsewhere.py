"""Results of other people that a config names, whatever their format: files are read, nothing is run."""

from pathlib import Path

from pissa_repro.exchange import peft_read, rate_study
from pissa_repro.exchange.found import Found, Read, once
from pissa_repro.runtime.errors import UserError, unknown

FORMATS = {"peft": peft_read.read, "rate-study": rate_study.read}
MOST = 1_000  # files of a folder


def files(path: Path, place: str) -> list[Path]:
    """The file, or the .json files of the folder, sorted. Raises UserError where there is none, or no end of them."""
    try:
        file, folder = path.is_file(), path.is_dir()
    except OSError as error:  # a name that is too long
        raise UserError(f"{place}: '{str(path)[:80]}' cannot be read: {error.strerror}.") from None
    if file:
        return [path]
    if not folder:
        raise UserError(f"{place}: no such file or folder '{path}'.")
    found = sorted(one for one in path.glob("*.json") if one.is_file())
    if not found:
        raise UserError(f"{place}: '{path}' has no .json file.")
    if len(found) > MOST:
        raise UserError(
            f"{place}: '{path}' has {len(found):,} .json files; {MOST:,} is the most. Take those that you need."
        )
    return found


def read(path: Path, format: str, metric: str | None, place: str) -> Read:
    """All runs of a file or folder in a format, and which have no score.

    Raises UserError for what cannot be read, for another format, and for a run that is there twice.
    """
    if format not in FORMATS:
        raise unknown("format", format, FORMATS, f"{place}.format")
    parts = [FORMATS[format](file, metric, place) for file in files(path, f"{place}.path")]
    runs: list[Found] = once((run for part in parts for run in part.runs), place)
    return Read(tuple(runs), tuple(word for part in parts for word in part.skipped))
