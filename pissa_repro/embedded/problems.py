"""gsm-mini (generated): word problems of two to four steps in the schema of GSM8K. It is not GSM8K.

Rows are question and answer, with `<<a=b>>` calculator annotations and a last line `#### N`.
The split of a problem follows from its text, so splits are disjoint whatever the seed or the
number of rows: names and things are masked, the rest is hashed, and the hash falls to one split.
A test problem is therefore not even a train problem with another name in it.
"""

import hashlib
import re

from pissa_repro.embedded.drawing import NAMES, THINGS, Draw, Unfit
from pissa_repro.embedded.scenarios import SCENARIOS

SPLITS = ("train", "validation", "test")
MOST_ROWS = {"train": 100_000, "validation": 10_000, "test": 10_000}
_NAME = re.compile(rf"\b({'|'.join(NAMES)})\b")
_THING = re.compile(rf"\b({'|'.join(THINGS)})\b")
_PRONOUN = re.compile(r"\b(He|She)\b")


def normalise(question: str) -> str:
    """The question with names, pronouns and things masked: what decides the split."""
    masked = _THING.sub("things", _NAME.sub("Name", question))
    return " ".join(_PRONOUN.sub("They", masked).lower().split())


def split_of(question: str) -> str:
    """The split that a question belongs to, by a hash that is the same on every machine."""
    bucket = int(hashlib.sha256(normalise(question).encode()).hexdigest(), 16) % 10
    return {0: "test", 1: "validation"}.get(bucket, "train")


def check(split: str, rows: int) -> None:
    """Raise ValueError for a split or a number of rows that cannot be made."""
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is unknown; choices: {', '.join(SPLITS)}")
    if not 1 <= rows <= MOST_ROWS[split]:
        raise ValueError(f"rows = {rows} for split {split!r}; choices: 1 to {MOST_ROWS[split]}")


def draw_problem(draw: Draw) -> dict[str, str]:
    """One problem of any split."""
    while True:
        try:
            question, steps = draw.pick(SCENARIOS)(draw)
        except Unfit:
            continue
        if 2 <= len(steps.lines) <= 4:
            return {"question": question, "answer": steps.answer()}


def generate(split: str, rows: int, seed: int = 0) -> list[dict[str, str]]:
    """`rows` distinct problems of a split; fewer rows of the same seed are a prefix of more."""
    check(split, rows)
    draw = Draw(f"gsm-mini {split} {seed}")
    seen: set[str] = set()
    problems: list[dict[str, str]] = []
    while len(problems) < rows:
        problem = draw_problem(draw)
        question = problem["question"]
        if question not in seen and split_of(question) == split:
            seen.add(question)
            problems.append(problem)
    return problems
