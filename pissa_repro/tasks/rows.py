"""What every task file takes from here: the rows that the stage fetched, and the paper's prompt."""

from typing import Any

from pissa_repro.sources.prompt import PROMPT


def dataset(path: str, **metadata: object) -> dict[str, Any]:
    """The rows of a fetched dataset as lm-eval wants them."""
    from datasets import Dataset

    from pissa_repro.runtime.record import read_lines

    return {"test": Dataset.from_list(read_lines(path))}


def prompt(doc: dict[str, str]) -> str:
    """The paper's prompt, the one that training used."""
    return PROMPT.format(instruction=doc["prompt"])
