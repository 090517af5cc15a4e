"""Programs out of generated answers: cut by the paper's rule or a strict one, run side by side, and scored."""

import re
from typing import Any

from pissa_repro.grading import sandbox
from pissa_repro.runtime import progress

GUARD = 'if __name__ == "__main__":'
FENCE = re.compile(r"(`{3,}|~{3,}) *([^\s`]*)[^`]*")  # a line that opens a block: the fence, and the language
PYTHON = re.compile(r"(python|py)[\d.]*", re.IGNORECASE)
# evalplus' instruction (evalplus/codegen.py and provider/utility.py), without the start of an answer that it
# puts into the model's mouth: the paper's rule looks for the opening fence in what the model wrote.
INSTRUCTION = (
    "Please provide a self-contained Python script that solves the following problem in a markdown code block:\n"
    "```\n{problem}\n```"
)


def paper(text: str) -> str:
    """What the released utils/code_process.py keeps of an answer (docs/paper_facts.md 3.5).

    Carriage returns go. From the first "```python" on, all of which are deleted, up to the next line that
    starts with "```"; the whole text if there is none. Then the text is cut at the first main guard with
    double quotes, at the first "# Example usage" and at the first "assert", wherever these stand, in
    a string too. Blank space at both ends goes with each cut: of a block that holds only a function's body,
    the first indentation too, so that it fails, while a body without a fence stays as it is.

    The released code stops with an error at a main guard without "if" or the colon; here it is no guard.
    """
    text = text.replace("\r", "")
    _, fence, rest = text.partition("```python")
    if fence:
        text, end, _ = rest.rstrip().replace("```python", "").partition("\n```")
        text = text.strip() if end else text
    for mark in (GUARD, "# Example usage", "assert"):
        before, cut, _ = text.partition(mark)
        text = before.strip() if cut else text
    return text


def strict(text: str) -> str | None:
    """The first closed block fenced as Python (python, python3, py; backticks or tildes), uncut; None without one."""
    opened: re.Match[str] | None = None
    kept: list[str] = []
    for line in text.replace("\r\n", "\n").split("\n"):
        if opened is None:
            opened, kept = FENCE.fullmatch(line), []
        elif line.rstrip() != opened[1]:
            kept.append(line + "\n")
        elif PYTHON.fullmatch(opened[2]):
            return "".join(kept)
        else:
            opened = None
    return None


def cuts(text: str) -> dict[str, str | None]:
    """The answer under each rule, by the metric's name."""
    return {"paper": paper(text), "strict": strict(text)}


def run_all(programs: list[dict[str, str | None]]) -> None:
    """Run the programs of all items and metrics side by side, so that `score` finds their outcomes."""
    wanted = [program for item in programs for program in item.values() if program is not None]
    sandbox.run_many(wanted, progress=progress.track)


def score(programs: dict[str, str | None]) -> dict[str, float]:
    """1.0 for each metric whose program reaches its end, 0.0 for the others and where there is no program."""
    return {name: float(text is not None and sandbox.outcome(text).passed) for name, text in programs.items()}


def ready() -> None:
    """Raise UserError where no sandbox works."""
    sandbox.kind()


def facts() -> dict[str, Any]:
    """How programs were run, for the score's record."""
    return {"sandbox": sandbox.facts()}
