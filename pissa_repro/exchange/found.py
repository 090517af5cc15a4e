"""Scores of other people's runs, whatever file they come from."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pissa_repro.runtime.errors import UserError


@dataclass(frozen=True)
class Found:
    """One run, or several that differ in their seed. scores: a fraction of 1 for each. None: the file does not say.

    base: the hub id of the model. n, stderr: items behind a score, and the standard error over them (fraction of 1).
    loss: the final training loss, as that file defines it. peak_bytes: of the accelerator.
    """

    file: Path
    method: str
    scores: tuple[float, ...]
    base: str | None = None
    rank: int | None = None
    learning_rate: float | None = None
    n: int | None = None
    stderr: float | None = None
    loss: float | None = None
    parameters: int | None = None
    train_seconds: float | None = None
    peak_bytes: int | None = None


@dataclass(frozen=True)
class Read:
    """What was read of a file: its runs, and why others of it have no score."""

    runs: tuple[Found, ...]
    skipped: tuple[str, ...] = ()


def once(runs: Iterable[Found], place: str) -> list[Found]:
    """The runs, each once. Raises UserError where two are of the same method, rank and rate: which one counts?"""
    known: dict[tuple[object, ...], Found] = {}
    for run in runs:
        key = (run.method, run.base, run.rank, run.learning_rate)
        if key in known:
            raise UserError(
                f"{place}: '{run.method}' is in {known[key].file} and again in {run.file}. Keep one of them."
            )
        known[key] = run
    return list(known.values())
