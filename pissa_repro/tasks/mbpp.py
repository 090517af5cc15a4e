"""MBPP and MBPP+: the instruction, and what is run of an answer. Used by mbpp.yaml."""

from typing import Any

from pissa_repro.grading.answers.programs import INSTRUCTION, cuts, facts, ready, run_all, score
from pissa_repro.runtime.errors import UserError

__all__ = ["check", "facts", "prepare", "process_results", "programs", "prompt", "ready", "tests"]


def prompt(doc: dict[str, Any]) -> str:
    """The user's words: evalplus' instruction around the task and its first test, which names the function."""
    check(doc)
    lines = ('"""', doc["prompt"].strip(), _list(doc["tests"])[0].strip(), '"""')
    return INSTRUCTION.format(problem="\n".join(lines))


def check(doc: dict[str, Any]) -> None:
    """Raise UserError for a row without a first test for the prompt, or without tests to run."""
    if not _list(doc["tests"]):
        raise UserError(f"mbpp: no tests for the task {doc['prompt'][:60]!r}.")
    tests(doc)


def _list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def tests(doc: dict[str, Any]) -> str:
    """The imports of the tests if any, and the tests: `test` (MBPP+) where the dataset gives it, else `tests`.

    Raises UserError where there is nothing to test, for then any program would pass.
    """
    lines = [doc["test"]] if doc.get("test") else _list(doc["tests"])
    if not any(line.strip() for line in lines):
        raise UserError(f"mbpp: no tests for the task {doc['prompt'][:60]!r}.")
    return "\n".join([*_list(doc.get("imports") or []), *lines])


def programs(doc: dict[str, Any], generated: str) -> dict[str, str | None]:
    """What each metric runs: what its rule keeps of the answer, then the tests."""
    ending = f"\n{tests(doc)}\n"
    return {name: None if cut is None else cut + ending for name, cut in cuts(generated).items()}


def prepare(docs: list[dict[str, Any]], answers: list[str]) -> None:
    """Run the programs of all items."""
    run_all([programs(doc, generated) for doc, generated in zip(docs, answers, strict=True)])


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Both metrics of one item: 1.0 if its program passes all tests. Raises UserError where there is no sandbox."""
    return score(programs(doc, results[0]))
