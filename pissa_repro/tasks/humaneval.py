"""HumanEval and HumanEval+: the instruction, and what is run of an answer. Used by humaneval.yaml."""

from typing import Any

from pissa_repro.grading.answers.programs import INSTRUCTION, cuts, facts, ready, run_all, score
from pissa_repro.runtime.errors import UserError

__all__ = ["check", "facts", "prepare", "process_results", "programs", "prompt", "ready"]


def check(doc: dict[str, Any]) -> None:
    """Raise UserError for a row that any program would fail: no function to test, or tests without `check`."""
    if not doc["entry_point"].isidentifier():
        raise UserError(f"humaneval: entry_point must name a function, a row has {doc['entry_point'][:60]!r}.")
    if "def check(" not in doc["test"]:
        raise UserError(f"humaneval: no 'def check(candidate)' in the tests of {doc['entry_point']}.")


def prompt(doc: dict[str, Any]) -> str:
    """The user's words: evalplus' instruction around the function's header."""
    return INSTRUCTION.format(problem=doc["prompt"].strip())


def programs(doc: dict[str, Any], generated: str) -> dict[str, str | None]:
    """What each metric runs: header, what its rule keeps of the answer, tests.

    The header always stands in front, as evalplus does with what the released code hands it. An answer
    that defines the function again replaces it (the header alone is a function that returns None); one that is only
    the body, indented, completes it.
    """
    tests = f"\n{doc['test']}\ncheck({doc['entry_point']})\n"
    return {name: None if cut is None else doc["prompt"] + cut + tests for name, cut in cuts(generated).items()}


def prepare(docs: list[dict[str, Any]], answers: list[str]) -> None:
    """Run the programs of all items."""
    run_all([programs(doc, generated) for doc, generated in zip(docs, answers, strict=True)])


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Both metrics of one item: 1.0 if its program passes all tests. Raises UserError where there is no sandbox."""
    return score(programs(doc, results[0]))
