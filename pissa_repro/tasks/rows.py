"""What every task file takes from here: the rows that the stage fetched, and what the user asks."""

from typing import Any


def dataset(path: str, **metadata: object) -> dict[str, Any]:
    """The rows of a fetched dataset as lm-eval wants them."""
    from datasets import Dataset

    from pissa_repro.runtime.record import read_lines

    return {"test": Dataset.from_list(read_lines(path))}


def prompt(doc: dict[str, str]) -> str:
    """The user's words. What stands around them is the cell's prompt, the one of its training (sources/prompt.py)."""
    return doc["prompt"]
