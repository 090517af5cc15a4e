"""GSM8K: reference, the two answer rules, and the last number of a text. Used by gsm8k.yaml."""

import re
from fractions import Fraction

from pissa_repro.runtime.errors import UserError
from pissa_repro.sources.prompt import MARKER

__all__ = [
    "check",
    "extracted",
    "last_number",
    "paper_answer",
    "process_results",
    "reference",
    "reread",
    "strict_answer",
]

# The released rule's pattern (docs/paper_facts.md 3.5): one optional separator only, so that of
# "1,234,567" it sees "1,234". Kept, because the published numbers were made with it.
_PAPER_NUMBER = re.compile(r"[\-+]?\d*[\.,/]?\d+")
_STRICT_NUMBER = re.compile(r"[-+]?(\d{1,3}(,\d{3})+|\d+)(\.\d+)?", re.ASCII)
# A sign belongs to a number only where nothing stands before it to take away from: 10-2 ends in 2, -2 in -2.
_ANY_NUMBER = re.compile(
    r"(?:(?<![\w)\]])[-+\u2212]\$?)?(?:\d{1,3}(?:,\d{3})+(?![\d,]*\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)", re.ASCII
)
_LONGEST = 300  # characters of a number; a model that repeats a digit for ever must not overflow a float or an int


def reference(response: str) -> Fraction:
    """The number after '####', in a form that the strict rule reads. Raises UserError for a row without one."""
    _, marker, tail = response.rpartition("####")
    number = _exact(tail.strip()) if marker else None
    if number is None:
        raise UserError(
            f"gsm8k: no number after '####' in the reference {response[-60:]!r}. Numbers are such as 7, -7, 1,234 or "
            "2.50: of 1/2, .5, 1e3 and 1,23 no answer could be told right."
        )
    return number


def check(doc: dict[str, str]) -> None:
    """Raise UserError for a row without a reference number."""
    reference(doc["response"])


def paper_answer(generated: str) -> int | None:
    """The released rule: first number after the last marker, rounded; None where there is none."""
    _, marker, tail = generated.rpartition(MARKER)
    number = _PAPER_NUMBER.search(tail) if marker else None
    if not number or len(number.group()) > _LONGEST:
        return None
    top, slash, bottom = number.group().replace(",", "").partition("/")
    if not slash:
        return round(float(top))
    if not top.strip("+-") or not bottom:
        return None
    return round(int(top) / int(bottom)) if int(bottom) else int(top)


def strict_answer(generated: str) -> Fraction | None:
    """All that stands on the last marker's line, as one exact number; None if it is anything else."""
    _, marker, tail = generated.rpartition(MARKER)
    return _exact(tail.split("\n")[0].strip()) if marker else None


def last_number(generated: str) -> Fraction | None:
    """The last number of a text, wherever it stands, exact; None where there is none.

    The same idea as `flexible-extract` of lm-evaluation-harness' gsm8k task. Thousands need all their commas.
    """
    numbers = _ANY_NUMBER.findall(generated)
    if not numbers or len(numbers[-1]) > _LONGEST:
        return None
    return Fraction(numbers[-1].replace("\u2212", "-").replace("$", "").replace(",", ""))


def _exact(line: str) -> Fraction | None:
    """A line that is one number and no more; None for any other.

    A leading dollar sign, a closing full stop and the typographic minus are allowed, thousands need all their commas.
    """
    line = line.removeprefix("$").removesuffix(".").replace("\u2212", "-")
    if len(line) > _LONGEST or not _STRICT_NUMBER.fullmatch(line):
        return None
    return Fraction(line.replace(",", ""))


def process_results(doc: dict[str, str], results: list[str]) -> dict[str, float]:
    """Both metrics of one item: 1.0 for right, 0.0 for wrong."""
    wanted, generated = reference(doc["response"]), results[0]
    return {
        "paper": float(paper_answer(generated) == wanted),
        "strict": float(strict_answer(generated) == wanted),
    }


def reread(target: str, generated: str) -> dict[str, float]:
    """Whether the last number is right, and whether the text has the marker, whatever follows it."""
    return {
        "last_number": float(last_number(generated) == reference(target)),
        "marker": float(MARKER in generated),
    }


def extracted(target: str, generated: str) -> str | None:
    """The number that the published rule reads."""
    answer = paper_answer(generated)
    return None if answer is None else str(answer)
