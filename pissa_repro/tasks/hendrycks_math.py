r"""MATH: reference, and the two answer rules. Used by math.yaml (a file math.py could hide Python's own)."""

from typing import Any

from pissa_repro.grading.answers import equivalence
from pissa_repro.grading.answers.latex import boxed, same_text
from pissa_repro.runtime.errors import UserError
from pissa_repro.sources.prompt import MARKER

__all__ = ["check", "extracted", "facts", "last_answer", "paper_answer", "prepare", "process_results", "reference"]


def reference(response: str) -> str:
    r"""The answer in the solution's last \boxed. Raises UserError for a row without one."""
    answer = boxed(response)
    if not answer:
        raise UserError(rf"math: no answer in a \boxed in the reference {response[-60:]!r}.")
    return answer


def check(doc: dict[str, str]) -> None:
    """Raise UserError for a row without a boxed answer."""
    reference(doc["response"])


def prepare(docs: list[dict[str, Any]], answers: list[str]) -> None:
    """Count what math-verify cannot judge from here on: one process may score several records."""
    equivalence.cut_off = 0


def facts() -> dict[str, Any]:
    """For the score's record: how many answers math-verify could not judge; they count as wrong."""
    return {"math_verify_cut_off": equivalence.cut_off}


def paper_answer(generated: str) -> str | None:
    """The released rule: the text after the last marker, to the first dot that ends a line, without a last dot.

    None where there is no marker. GraphPKU/PiSSA test_acc.py, process_math_results (docs/paper_facts.md 3.5).
    """
    _, marker, tail = generated.rpartition(MARKER)
    return tail.split(".\n")[0].strip().removesuffix(".").strip() if marker else None


def last_answer(generated: str) -> str:
    r"""The first line after the last marker, without a last dot; where there is no marker, the last \boxed."""
    _, marker, tail = generated.rpartition(MARKER)
    return tail.strip().partition("\n")[0].strip().removesuffix(".") if marker else boxed(generated) or ""


def process_results(doc: dict[str, str], results: list[str]) -> dict[str, float]:
    """Both metrics of one item: 1.0 for right, 0.0 for wrong."""
    wanted, generated = reference(doc["response"]), results[0]
    answer = paper_answer(generated)
    return {
        "paper": float(answer is not None and same_text(answer, wanted)),
        "math_verify": float(equivalence.equivalent(wanted, last_answer(generated))),
    }


def extracted(target: str, generated: str) -> str | None:
    """What the published rule compares with the reference."""
    return paper_answer(generated)
