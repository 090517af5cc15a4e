"""The pre-training text: short documents that teach the skills, never the task.

A library module; `python -m pissa_repro.stages.pretrain` and the dataset `embedded:pretraining` read from it.
The documents are equations, chains of equations, one-step exercises in other words, comparisons, copying, and bare
questions of *train* problems without any solution; some of them in the instruction template.
No document holds a worked word problem of two or more steps, and none a question of another split.
"""

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from pissa_repro.embedded.drawing import LARGEST, NAMES, THINGS, Draw
from pissa_repro.embedded.problems import draw_problem, split_of

TEMPLATE = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request."
    "\n\n### Instruction:\n{question}\n\n### Response:"
)
UNITS = ("dollars", "miles", "pages", "years", "people", "kids", "groups", "boxes", "weeks")
COUNTED = THINGS + UNITS
SPLIT, MOST_ROWS = "pretraining", 100_000  # of `held_out` as a dataset
TEMPLATE_SHARE = 35  # of 100 exercises; the rest are plain question and answer


class Equation(NamedTuple):
    """`left op right = value`."""

    left: int
    op: str
    right: int
    value: int


def equation(draw: Draw, a: int | None = None) -> Equation:
    """`a op b = value` with whole, positive values up to LARGEST; `a` is drawn if not given."""
    while True:
        op = draw.pick("+-*/")
        if op == "*":
            left, right = draw.number(2, draw.pick((9, 12, 30))) if a is None else a, draw.number(2, 9)
        elif op == "/":
            right = draw.number(2, 12)
            left = right * draw.number(1, draw.pick((9, 30))) if a is None else a
        else:
            left = draw.number(2, draw.pick((20, 40, 160))) if a is None else a
            right = draw.number(2, draw.pick((20, 20, 100)))
        if op == "/" and left % right:
            continue
        value = {"+": left + right, "-": left - right, "*": left * right, "/": left // right}[op]
        if left <= LARGEST and 0 < value <= LARGEST:
            return Equation(left, op, right, value)


def facts(draw: Draw) -> str:
    """A few unrelated equations, one per line."""
    lines = ("{}{}{}={}".format(*equation(draw)) for _ in range(draw.number(3, 8)))
    return "\n".join(lines)


def chain(draw: Draw) -> str:
    """Equations of which each starts from the value before."""
    value: int | None = None
    parts = []
    for _ in range(draw.number(2, 5)):
        a, op, b, value = equation(draw, value)
        parts.append(f"{a}{op}{b}={value}")
    return ", ".join(parts)


ONE_STEP = {
    "+": (
        ("{n} has {a} {t} and buys {b} more.", "{t}"),
        ("{n} has {a} {t}. {m} has {b} {t}. How many in all?", "{t}"),
        ("{m} is {a} years old. {n} is {b} years older.", "years"),
        ("A bus has {a} people and {b} get on.", "people"),
    ),
    "-": (
        ("{n} has {a} {t} and loses {b}.", "{t}"),
        ("{n} has ${a} and spends ${b}.", "dollars"),
        ("How many more {t} than {b} is {a}?", "{t}"),
        ("A book has {a} pages. {n} reads {b} pages.", "pages"),
    ),
    "*": (
        ("{a} boxes with {b} {t} each.", "{t}"),
        ("{n} buys {a} {t} for ${b} each.", "dollars"),
        ("{n} rides {a} miles an hour for {b} hours.", "miles"),
        ("{n} earns ${a} an hour and works {b} hours.", "dollars"),
    ),
    "/": (
        ("{a} {t} are shared by {b} friends.", "{t} each"),
        ("{a} kids make groups of {b}.", "groups"),
        ("{n} wants ${a} and saves ${b} a week.", "weeks"),
        ("{a} {t} go in boxes of {b}.", "boxes"),
    ),
}


def one_step(draw: Draw) -> tuple[str, str]:
    """An exercise of a single operation, in words; the reply names the unit first."""
    a, op, b, value = equation(draw)
    question, unit = draw.pick(ONE_STEP[op])
    (n, m), t = draw.two(NAMES), draw.pick(THINGS)
    words = {"n": n, "m": m, "t": t, "a": a, "b": b}
    return question.format(**words), f"{unit.format(**words)}: {a}{op}{b}={value}"


def compute(draw: Draw) -> tuple[str, str]:
    """An equation to write out."""
    a, op, b, value = equation(draw)
    word = {"+": "plus", "-": "minus", "*": "times", "/": "over"}[op]
    return f"What is {a} {word} {b}?", f"{a}{op}{b}={value}"


def order(draw: Draw) -> tuple[str, str]:
    """A comparison, answered with a word."""
    a, b = draw.number(2, LARGEST), draw.number(2, LARGEST)
    return f"Is {a} more than {b}?", f"The answer is: {'yes' if a > b else 'no'}"


def train_question(draw: Draw) -> str:
    """The question of a train problem; what is drawn for another split is thrown away."""
    while True:
        question = draw_problem(draw)["question"]
        if split_of(question) == "train":
            return question


def numbers(draw: Draw) -> tuple[str, str]:
    """The numbers of a question, in the order in which they stand."""
    question = train_question(draw)
    spelled = "".join(c if c.isdigit() else " " for c in question).split()
    return f"List the numbers. {question}", ", ".join(spelled)


def copy(draw: Draw) -> tuple[str, str]:
    """A few things with their numbers, to repeat."""
    counted = [f"{draw.number(2, LARGEST)} {draw.pick(COUNTED)}" for _ in range(draw.number(2, 4))]
    return f"Repeat: {', '.join(counted)}", "\n".join(counted)


EXERCISES = (one_step, one_step, one_step, one_step, numbers, numbers, copy, copy, compute, order)


def document(draw: Draw) -> str:
    """One document of any kind."""
    kind = draw.number(1, 100)
    if kind <= 22:
        return facts(draw)
    if kind <= 34:
        return chain(draw)
    if kind <= 38:
        return train_question(draw)
    question, reply = draw.pick(EXERCISES)(draw)
    if draw.number(1, 100) <= TEMPLATE_SHARE:
        return f"{TEMPLATE.format(question=question)}{reply}\n"
    return f"{question}\n{reply}\n"


def documents(seed: str) -> Iterator[str]:
    """An endless stream of documents, the same for the same seed on every machine."""
    draw = Draw(f"pretrain {seed}")
    while True:
        yield document(draw)


def held_out(rows: int) -> list[dict[str, str]]:
    """The first documents of the stream that the shipped model was not trained on (pretrain.py), as rows {"text"}.

    Short ones, such as a comparison, may occur in the other stream too. Raises ValueError for a number of rows that
    cannot be made.
    """
    if not 1 <= rows <= MOST_ROWS:
        raise ValueError(f"rows = {rows} for split {SPLIT!r}; choices: 1 to {MOST_ROWS}")
    return [{"text": text} for text in islice(documents("held out 0"), rows)]
