"""Plain columns of text."""

from collections.abc import Sequence


def show(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under their headings, the columns aligned."""
    print("\n".join(columns(headings, rows)))


def columns(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of rows under their headings, the columns aligned."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    every = (headings, *rows)
    return ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in every]
