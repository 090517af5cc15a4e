"""Parts of a dataset: ranges of its rows, seeded shares that have no text in common, and what two datasets share."""

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import read_lines
from pissa_repro.runtime.specs import DataPart

Item = TypeVar("Item")


def span(wanted: int | str) -> tuple[int, int]:
    """The first row and the one after the last, counted from 0: of N, the first N; of "5-9", five rows.

    Raises ValueError for a range that holds nothing.
    """
    if not isinstance(wanted, str):
        return 0, wanted
    first, last = (int(number) for number in wanted.split("-"))
    if last < first:
        raise ValueError(f"the range {wanted} holds no row; first and last are both inside")
    return first, last + 1


def taken(rows: Iterable[Item], wanted: int | str | None, place: str) -> Iterator[Item]:
    """The rows of a range, in order; all for None. Raises UserError, after the last one, when there are fewer."""
    try:
        first, stop = (0, None) if wanted is None else span(wanted)
    except ValueError as error:
        raise UserError(f"{place}.rows: {error}.") from None
    count = 0
    for count, row in enumerate(itertools.islice(rows, stop), 1):
        if count > first:
            yield row
    if stop is not None and count < stop:
        asked = f"the rows {wanted}" if isinstance(wanted, str) else f"{wanted} rows"
        raise UserError(f"{place}.rows: {asked} asked for, the dataset has {count}.")


def same_text(text: str) -> str:
    """What two texts that differ in blank space only have in common."""
    return " ".join(text.split())


def in_share(prompt: str, share: float, seed: int, depth: int) -> bool:
    """Whether a prompt falls into a share of its dataset.

    Its hash decides, so the side is the same on every machine, in any order and whatever rows are beside it, and
    equal prompts stay together. depth: how often the dataset was split before; each split draws anew.
    """
    drawn = hashlib.sha256(f"{seed} {depth} {same_text(prompt)}".encode()).digest()
    return int.from_bytes(drawn[:8], "big") < share * 2**64


def part(rows: Iterable[dict[str, Any]], wanted: DataPart, depth: int, place: str) -> Iterator[dict[str, Any]]:
    """The rows of a share, or with `rest` the others, and of these a range. A row's prompt decides, or its text."""
    share, seed, rest = wanted["share"], wanted["seed"], wanted.get("rest", False)
    inside = (
        row for row in rows if in_share(row["prompt"] if "prompt" in row else row["text"], share, seed, depth) != rest
    )
    return taken(inside, wanted.get("rows"), place)


def seen_in_training(scored: Path, trained: Path) -> int | None:
    """How many of the scored rows have a prompt that a row of the training has too, up to blank space.

    Of plain texts that were trained on and are scored: how many of the texts, whole. Both are files of fetched rows.
    None where one has prompts and the other texts.
    """
    asked, taught = read_lines(scored), read_lines(trained)
    for words in (_prompt, _text):
        texts, known = [words(row) for row in asked], {words(row) for row in taught}
        if None not in texts and None not in known:
            return sum(text in known for text in texts)
    return None


def _prompt(row: dict[str, Any]) -> str | None:
    """What identifies a row: its prompt, or the first turn of its conversation."""
    texts = [row["prompt"]] if "prompt" in row else row.get("turns", [])
    return same_text(texts[0]) if texts else None


def _text(row: dict[str, Any]) -> str | None:
    return same_text(" ".join([row["text"], row.get("text_pair", "")])) if "text" in row else None
