"""Commonsense questions in LLM-Adapters' form: labels, and the two answer rules. Used by commonsense.yaml."""

import re

from pissa_repro.runtime.errors import UserError

__all__ = ["KINDS", "check", "choices", "extracted", "kind", "paper_answer", "process_results", "strict_answer"]

# The words that the published rule looks for, by kind of set (Hu et al. 2023; AGI-Edgerunners/LLM-Adapters
# commonsense_evaluate.py, extract_answer; the same in GraphPKU/PiSSA test_acc.py). The eight sets:
KINDS = (
    ("true", "false"),  # boolq
    ("solution1", "solution2"),  # piqa
    ("answer1", "answer2", "answer3", "answer4", "answer5"),  # social_i_qa, ARC-Easy, ARC-Challenge, openbookqa
    ("ending1", "ending2", "ending3", "ending4"),  # hellaswag
    ("option1", "option2"),  # winogrande
)
_FORMAT = re.compile(r"Answer format: (\S+)\s*$")
_STRICT = re.compile(r"the correct answer is (\w+)\.?", re.ASCII)


def kind(answer: str) -> tuple[str, ...]:
    """All labels of the set that the reference's label belongs to. Raises UserError for an unknown label."""
    for labels in KINDS:
        if answer in labels:
            return labels
    words = ", ".join(word for labels in KINDS for word in labels)
    raise UserError(f"commonsense: unknown answer {answer!r} in the reference. Choices: {words}.")


def choices(prompt: str) -> list[str]:
    """The labels that the question's last line, "Answer format: a/b/...", allows. Raises UserError without one."""
    match = _FORMAT.search(prompt)
    if not match:
        raise UserError(f"commonsense: no 'Answer format: a/b/...' at the end of the question {prompt[-60:]!r}.")
    return match.group(1).split("/")


def paper_answer(generated: str, labels: tuple[str, ...]) -> str | None:
    """The published rule: the first label anywhere in the text; None where there is none.

    Case counts, word borders do not: "untrue" is read as "true", "answer12" as "answer1", and "Answer1"
    not at all. A label that this item does not offer is read all the same, and is wrong.
    """
    match = re.search("|".join(labels), generated)
    return match.group() if match else None


def strict_answer(generated: str, offered: list[str]) -> str | None:
    """X, if the first line is "the correct answer is X" and no more (a full stop may end it), and X is offered."""
    match = _STRICT.fullmatch(generated.strip().split("\n")[0].rstrip())
    return match.group(1) if match and match.group(1) in offered else None


def _labels(doc: dict[str, str]) -> tuple[tuple[str, ...], list[str]]:
    """All labels of the row's set, and those that its question offers."""
    wanted = doc["answer"]
    labels, offered = kind(wanted), choices(doc["prompt"])
    if wanted not in offered:
        raise UserError(f"commonsense: the reference {wanted!r} is not offered by the question: {'/'.join(offered)}.")
    return labels, offered


def check(doc: dict[str, str]) -> None:
    """Raise UserError for a row whose label is unknown, or not one that its question offers."""
    _labels(doc)


def process_results(doc: dict[str, str], results: list[str]) -> dict[str, float]:
    """Both metrics of one item: 1.0 for right, 0.0 for wrong."""
    labels, offered = _labels(doc)
    wanted, generated = doc["answer"], results[0]
    return {
        "paper": float(paper_answer(generated, labels) == wanted),
        "strict": float(strict_answer(generated, offered) == wanted),
    }


def extracted(target: str, generated: str) -> str | None:
    """The label that the published rule reads."""
    return paper_answer(generated, kind(target))
