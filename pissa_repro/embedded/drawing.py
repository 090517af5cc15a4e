"""What every scenario is made of: names, stable random draws and the steps of a rationale."""

import random
from collections.abc import Sequence
from typing import TypeVar

Choice = TypeVar("Choice")
HE = ("Tom", "Ben", "Max", "Sam", "Leo", "Jack", "Omar", "Paul")
SHE = ("Anna", "Mia", "Lily", "Emma", "Zoe", "Nina", "Ruth", "Sara")
NAMES = HE + SHE
THINGS = (
    "apples", "pens", "books", "cards", "coins", "stamps", "shells", "balls",
    "cookies", "roses", "eggs", "pears", "beads", "toys", "rocks", "cups",
)  # fmt: skip
LARGEST = 200


class Unfit(Exception):
    """The drawn numbers make no problem of whole, small, non-negative numbers."""


class Draw:
    """Random choices built on random() alone, the one method Python promises to keep stable."""

    def __init__(self, seed: str):
        self._random = random.Random(seed)

    def number(self, low: int, high: int) -> int:
        return low + int(self._random.random() * (high - low + 1))

    def pick(self, choices: Sequence[Choice]) -> Choice:
        return choices[self.number(0, len(choices) - 1)]

    def two(self, choices: Sequence[Choice]) -> tuple[Choice, Choice]:
        first = self.pick(choices)
        return first, self.pick([c for c in choices if c != first])


class Steps:
    """The lines of a rationale, each one equation with its calculator annotation."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.result: int | None = None

    def add(self, a: int, op: str, b: int, unit: str) -> int:
        """Append `a op b` and return its value; raise Unfit where it is no small whole number."""
        if op == "/" and (b == 0 or a % b):
            raise Unfit
        value = {"+": a + b, "-": a - b, "*": a * b, "/": a // b if b else 0}[op]
        if not 0 < value <= LARGEST:
            raise Unfit
        equation = f"{a}{op}{b}={value}"
        self.lines.append(f"{a}{op}{b}=<<{equation}>>{value} {unit}")
        self.result = value
        return value

    def answer(self) -> str:
        return "\n".join([*self.lines, f"#### {self.result}"])
