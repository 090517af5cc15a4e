"""LLM-as-a-judge: ratings of answers, asked in parallel, each kept at once in a journal.

Within `with keeping(path):` a task's `prepare` calls `judge_all(questions)`, which asks only for what the journal does
not hold; its `process_results` reads `rating(prompt)`; the score's record takes `summary()`. The journal in use is this
module's state, because lm-eval loads a task's file as a module of its own.
"""

import contextlib
import hashlib
import json
import logging
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from pissa_repro.grading.judge.client import Down, Judgement, NoRating, Stopped, judgement
from pissa_repro.grading.judge.endpoint import Endpoint, Patience, endpoint, model_name
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.journal import JournalFile, open_journal
from pissa_repro.runtime.progress import track

log = logging.getLogger(__name__)
ENOUGH = 8  # questions without a rating after which the judge is taken to be no judge


@dataclass(frozen=True)
class Question:
    """One thing to rate: its number (from 1, in the order of the rows), its turn (from 1), the whole judge prompt."""

    number: int
    turn: int
    prompt: str

    @property
    def digest(self) -> str:
        """SHA-256 of the prompt; it holds the question and the answer, so a changed answer is a new question."""
        return hashlib.sha256(self.prompt.encode("utf-8", "surrogatepass")).hexdigest()


class Line(Judgement):
    """A line of the journal: which question, put to which judge, and what it said."""

    question: int
    turn: int
    judge: str
    prompt_sha256: str


class Summary(TypedDict):
    """What a score's record says of its judge."""

    model: str
    answered_by: list[str]
    judgements: int
    asked_again: int
    prompt_tokens: int | None
    completion_tokens: int | None


@dataclass
class Journal:
    """A JSON-lines file of judgements, held open and locked, and those of them that this run uses.

    kept: {(judge, prompt's digest): line}; used: {prompt's digest: line}.
    """

    file: JournalFile
    kept: dict[tuple[str, str], Line] = field(default_factory=dict)
    used: dict[str, Line] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def append(self, line: Line) -> None:
        """Add a line; it is on disk when this returns. A line without a rating is for reading only."""
        with self.lock:
            self.file.append([line])
            if line["rating"] is not None:
                self.kept[line["judge"], line["prompt_sha256"]] = line


_journal: Journal | None = None


@contextlib.contextmanager
def keeping(path: str | Path) -> Iterator[None]:
    """Keep judgements in this file meanwhile, and use those that it holds.

    Raises OSError, and UserError while another process keeps judgements there.
    """
    global _journal
    with open_journal(Path(path), "keeping judgements in") as file:
        _journal = Journal(file, _read(file))
        try:
            yield
        finally:
            _journal = None


def _read(file: JournalFile) -> dict[tuple[str, str], Line]:
    """What the journal keeps. A line that a kill left unfinished is dropped, so that it is asked again."""
    *lines, rest = file.path.read_bytes().split(b"\n")
    read = [_line(line) for line in lines] + [None] * bool(rest)
    if None in read:
        log.warning("%s: %d damaged lines are left out; what they held is asked again", file.path, read.count(None))
    if rest:
        file.end_line()
    rated = [line for line in read if line and line["rating"] is not None]
    return {(line["judge"], line["prompt_sha256"]): line for line in rated}


def _line(content: bytes) -> Line | None:
    """A journal's line; None for anything that is not a judgement."""
    try:
        line = json.loads(content)
        rating = line["rating"]
        whole = isinstance(line["judge"], str) and isinstance(line["prompt_sha256"], str)
        return line if whole and (rating is None or 1 <= rating <= 10) else None
    except (ValueError, LookupError, TypeError):
        return None


def _opened() -> Journal:
    if _journal is None:
        raise RuntimeError("judge: no journal; judge_all and rating work within `with keeping(path):`")
    return _journal


def judge_all(questions: Iterable[Question], patience: Patience | None = None) -> None:
    """Have every question rated by the judge of the environment (judge/endpoint.py); those kept are not asked again.

    Raises UserError without a judge, and for the first question that got no rating, once every reply is kept: at once
    if the endpoint does not serve, otherwise after the rest has been asked.
    """
    journal, model = _opened(), model_name()
    wanted: dict[tuple[str, str], Question] = {}
    for question in questions:
        wanted.setdefault((model, question.digest), question)
    missing = [question for key, question in wanted.items() if key not in journal.kept]
    if missing:
        log.info("judge %s: %d judgements are kept, %d to ask for", model, len(wanted) - len(missing), len(missing))
        _ask(missing, journal, endpoint(), patience or Patience.from_environment())
    journal.used = {digest: journal.kept[model, digest] for model, digest in wanted}


def _ask(missing: list[Question], journal: Journal, judge: Endpoint, patience: Patience) -> None:
    """Ask in parallel; every reply goes into the journal from the thread that got it."""
    stop = threading.Event()
    failed: dict[Question, UserError] = {}
    with ThreadPoolExecutor(patience.threads, "judge") as pool:
        futures = {pool.submit(_rate, question, journal, judge, patience, stop): question for question in missing}
        try:
            for future in track(as_completed(futures), "judge", len(futures)):
                if error := future.result():
                    failed[futures[future]] = error
                if len(failed) >= ENOUGH:
                    stop.set()
        finally:
            stop.set()  # after Ctrl-C or a full disk, too: requests under way end, none is waited for or begun
    if failed:
        # That the endpoint is down explains the rest, so it goes first.
        first = min(
            failed, key=lambda question: (not isinstance(failed[question], Down), question.number, question.turn)
        )
        more = f" So it went with {len(failed) - 1} more." if len(failed) > 1 else ""
        kept = sum((judge.model, question.digest) in journal.kept for question in missing)
        raise UserError(
            f"{failed[first]}{more} Of {len(missing)} judgements {kept} were made; they are kept, and so are the "
            "generations. The same command asks for the rest."
        )


def _rate(
    question: Question, journal: Journal, judge: Endpoint, patience: Patience, stop: threading.Event
) -> UserError | None:
    """Ask for one rating and keep the reply; the error where there is none."""
    if stop.is_set():
        return None

    def line(said: Judgement) -> Line:
        number, turn, digest = question.number, question.turn, question.digest
        return {"question": number, "turn": turn, "judge": judge.model, "prompt_sha256": digest, **said}

    place = f"the judge at {judge.host}, question {question.number}, turn {question.turn}"
    try:
        journal.append(line(judgement(judge, question.prompt, place, patience, stop)))
    except NoRating as error:
        if error.record:
            journal.append(line(error.record))
        if isinstance(error, Down):
            stop.set()
        return None if isinstance(error, Stopped) else error
    except OSError:  # a full disk: no further question, also before the main thread hears of it
        stop.set()
        raise
    return None


def rating(prompt: str) -> float:
    """The rating (1..10) of a prompt that judge_all was given. Raises KeyError for any other."""
    given = _opened().used[Question(0, 0, prompt).digest]["rating"]
    assert given is not None  # `used` holds rated lines only
    return given


def summary() -> Summary | None:
    """For a score's record: model, answered_by (the names that the server gave), judgements, asked_again (how many
    needed more than one reply), prompt_tokens and completion_tokens (sums; None where not told). None without a judge.
    """
    lines = list(_journal.used.values()) if _journal else []
    if not lines:
        return None
    return {
        "model": lines[0]["judge"],
        "answered_by": sorted({line.get("answered_by") or "(not told)" for line in lines}),
        "judgements": len(lines),
        "asked_again": sum(bool(line.get("earlier")) for line in lines),
        "prompt_tokens": _total([line.get("prompt_tokens") for line in lines]),
        "completion_tokens": _total([line.get("completion_tokens") for line in lines]),
    }


def _total(counts: list[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
