"""A finished table, and how it is written."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pissa_repro.runtime.errors import unknown
from pissa_repro.runtime.record import atomic

Row = dict[str, Any]
FORMATS = ("csv", "md")


@dataclass(frozen=True)
class Table:
    """Columns and rows, and the same as text; a row leaves out what it has no number for, or says None."""

    columns: tuple[str, ...]
    rows: list[Row]
    markdown: str


def headed(heading: str, names: Iterable[str], rows: list[Row]) -> Table:
    """The rows with all their columns; as text, a grid under a heading that names models."""
    columns = tuple(dict.fromkeys(key for row in rows for key in row))
    grid = [columns, ["---"] * len(columns), *([_text(row.get(key)) for key in columns] for row in rows)]
    lines = "\n".join(f"| {' | '.join(line)} |" for line in grid)
    return Table(columns, rows, f"## {heading}: {', '.join(names)}\n\n{lines}\n")


def _text(value: Any) -> str:
    """A value with the digits that matter."""
    if _empty(value):
        return ""
    if isinstance(value, float):
        return (
            "0"
            if not value
            else f"{value:.2f}"
            if abs(value) >= 1
            else f"{value:.4g}"
            if abs(value) >= 1e-3
            else f"{value:.2e}"
        )
    return str(value)


def _empty(value: Any) -> bool:
    return value is None or value != value  # NaN: pandas' word for nothing


def save(table: Table, path: Path) -> None:
    """Write a table, whole or not at all. The format is the name's ending.

    CSV: floats with six significant digits, an empty field where there is no number.
    """
    kind = path.suffix.removeprefix(".")
    if kind not in FORMATS:
        raise unknown("format", kind, FORMATS, f"--out {path}")
    with atomic(path) as file:
        if kind == "md":
            file.write(table.markdown)
            return
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(table.columns)
        writer.writerows([_field(row.get(column)) for column in table.columns] for row in table.rows)


def _field(value: Any) -> Any:
    if _empty(value):
        return None
    return f"{value:.6g}" if isinstance(value, float) else value
