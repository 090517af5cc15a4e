"""Where the jobs of a sweep are: done, running, failed, or waiting for others. Reads only, and asks no Snakemake.

By records, locks and logs: a record says that a job is done, its lock or its log that it runs, and its log's last line
why it failed. Each file is asked for once; a record is read again only when it has changed.
"""

import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pissa_repro.plan.jobs import Job
from pissa_repro.results.records import content, departures, differing
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.lock import Holder, holder
from pissa_repro.runtime.logs import End, end_of, shown
from pissa_repro.runtime.record import read_json

FINISHED = ("done", "diverged")
STATES = {
    "done": "its record is there, of this config",
    "diverged": "the training lost its numbers: a result, without a score",
    "running": "it has a lock or writes its log",
    "failed": "the last line of its log is an error",
    "stopped": "it was interrupted or killed, and goes on with the next run",
    "outdated": "its record is of another config, or a table is older than its records",
    "ready": "all that it needs is there",
    "waiting": "for jobs that are not done",
}
SILENT = 600.0  # seconds without a word, after which a job that holds no lock does not run any more
LOCKED = re.compile(r"\.(.+)\.lock")


@dataclass(eq=False)
class Found:
    """A job and where it is. why: what its log or its record says of that.

    seconds: what it took, where its record says so. changed: when its record was written, in ns. left: seconds that a
    running one asks for. cause: of one that waits, the job that all of it comes down to.
    """

    job: Job
    state: str
    why: str = ""
    seconds: float | None = None
    changed: int = 0
    left: float | None = None
    cause: "Found | None" = None

    @property
    def finished(self) -> bool:
        """Whether others can use what it has made."""
        return self.state in FINISHED


class Status:
    """Looks at the jobs of a sweep in a folder of records, again and again."""

    def __init__(self, jobs: Sequence[Job], results: Path):
        self.jobs, self.results = jobs, results
        self.known: dict[Path, tuple[Any, Found]] = {}  # by record: when it was written and what was fetched then

    def look(self) -> list[Found]:
        """Every job with its state, in the order of the jobs. Raises UserError where the folder is none."""
        if not self.results.is_dir():
            raise UserError(
                f"--results {self.results}: no such folder. Run `snakemake` to begin the sweep, or name another."
            )
        now = time.time()
        self.hashes: dict[Path, str | None] = {}
        found = {job.record: self._one(job, now) for job in self.jobs}
        by_output = found | {path: one for one in found.values() for path in one.job.beside}
        for one in found.values():
            self._join(one, [by_output[path] for path in one.job.needs if path in by_output])
        _without_use(list(found.values()), by_output)
        return list(found.values())

    def _at(self, path: Path) -> Path:
        return path if self.results == paths.RESULTS else paths.at(path, self.results)

    def _one(self, job: Job, now: float) -> Found:
        """The state of a job by what it has left; "" where it has left nothing, and its needs decide."""
        try:
            written = os.stat(self._at(job.record)).st_mtime_ns
        except OSError:
            return self._unmade(job, now)
        made = self._made(job, written)
        if made.state == "outdated" and (again := self._unmade(job, now, written)).state:
            return again
        return made

    def _made(self, job: Job, written: int) -> Found:
        """The state of a job whose record is there."""
        if job.spec is None:
            return Found(job, "done", changed=written)
        weights, rows = (self._hash(job.model) if job.model else None), {one: self._rows(one) for one in job.data}
        signed = (written, weights, rows)
        before, kept = self.known.get(job.record, (None, None))
        if kept is None or before != signed:
            kept = self._read(job, written, weights, rows)
            self.known[job.record] = signed, kept
        return Found(kept.job, kept.state, kept.why, kept.seconds, kept.changed)

    def _read(self, job: Job, written: int, weights: str | None, rows: dict[str, str | None]) -> Found:
        try:
            record = read_json(self._at(job.record))
            if not isinstance(record, dict):
                raise UserError(f"{job.record}: not a complete record. Delete it and run again.")
        except (UserError, OSError) as error:
            return Found(job, "failed", str(error), changed=written)
        spec = job.spec() if job.spec else None
        others = departures(record, spec, weights, rows) if job.model else differing(spec, record.get("spec"))
        if why := next(others, ""):
            return Found(job, "outdated", shown(why), changed=written)
        lost = record.get("diverged")
        return Found(
            job, "diverged" if lost else "done", f"at step {lost}" if lost else "", _seconds(record), changed=written
        )

    def _hash(self, model: str) -> str | None:
        return self._content(paths.model(model))

    def _rows(self, data: str) -> str | None:
        return self._content(paths.data(data))

    def _content(self, path: Path) -> str | None:
        """The hash of what was fetched, read once a look."""
        if path not in self.hashes:
            try:
                self.hashes[path] = content(self._at(path))
            except (UserError, OSError):
                self.hashes[path] = None
        return self.hashes[path]

    def _unmade(self, job: Job, now: float, written: int = 0) -> Found:
        """The state of a job without a record, or with one that was written before (ns) and is of no use."""
        end = end_of(self._at(job.log))
        if end and end.written * 1e9 < written:
            end = None
        held = list(self._holders(job))
        if living := [one for one in held if one.alive is not False]:
            return Found(job, "running", _progress(end, now, living[0].name), left=end.left if end else None)
        if end and end.state:
            return Found(job, end.state, f"{end.line} ({self._at(job.log)})")
        if held:
            return Found(job, "stopped", f"killed: {held[0].name} is gone ({self._at(job.log)})")
        fresh = end is not None and now - end.written < SILENT and not written  # its record goes before a job begins
        if end and fresh and (job.place is None or not end.line):  # one with a lock of its own has said nothing yet
            return Found(job, "running", _progress(end, now, ""), left=end.left)
        return Found(job, "")

    def _holders(self, job: Job) -> Iterator[Holder]:
        """Who has a lock of a job, or died with it."""
        if job.place and (one := holder(self._at(job.place))):
            yield one
        for folder in job.journals:
            yield from holders_in(self._at(folder))

    def _join(self, one: Found, needs: list[Found]) -> None:
        """Settle the state of a job by those of the jobs that it needs."""
        missing = [need for need in needs if not need.finished]
        if one.job.spec is None and one.state == "done":  # a table: its file holds no spec
            newest = max((need.changed for need in needs), default=0)
            if missing:
                one.state = ""
            elif newest > one.changed:
                one.state, one.why = "outdated", "older than what it is made from"
        if one.state in ("", "outdated") and missing:
            causes = [need.cause or need for need in missing]
            one.cause = next((cause for cause in causes if cause.state == "failed"), causes[0])
        if not one.state:
            one.state = "waiting" if missing else "ready"


def holders_in(folder: Path) -> list[Holder]:
    """Who has a lock of any file of a folder, or died with it."""
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    locked = (folder / match[1] for name in names if (match := LOCKED.fullmatch(name)))
    return [one for path in locked if (one := holder(path))]


def _without_use(found: list[Found], by_output: dict[Path, Found]) -> None:
    """Take for done what nobody asks for any more: its record is gone, but all that was made from it is there."""
    asked = {path for one in found for path in one.job.needs}
    wanted: set[int] = set()
    for one in reversed(found):
        last = asked.isdisjoint((one.job.record, *one.job.beside))
        if one.finished or not (last or id(one) in wanted):
            if one.state in ("ready", "waiting"):
                one.state, one.why, one.cause = "done", "no record, and nothing needs it any more", None
            continue
        wanted.update(id(by_output[path]) for path in one.job.needs if path in by_output)


def _seconds(record: dict[str, Any]) -> float | None:
    """What a job took; of a training with the time before it was stopped."""
    known = (record.get("train_seconds"), (record.get("provenance") or {}).get("seconds"))
    return max((float(one) for one in known if isinstance(one, int | float)), default=None)


def _progress(end: End | None, now: float, name: str) -> str:
    """How far a running job is, and how long ago it said so."""
    said = f"{end.line}, {max(0.0, now - end.written):.0f} s ago" if end and end.line else "it has said nothing yet"
    return f"{said} ({name})" if name else said
