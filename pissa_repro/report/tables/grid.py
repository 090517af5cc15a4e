"""The rows of a sweep's table as a Markdown grid."""

from collections.abc import Callable
from typing import Any

from pissa_repro.paper.words import equivalent
from pissa_repro.report.tables import family
from pissa_repro.report.tables.columns import diverged
from pissa_repro.results.measure import Measure

Row = dict[str, Any]  # of a table: its columns by name (tables.row), and what they say of the row beside them
Column = Callable[[Row], str]  # what a column shows of a row


def grid(rows: list[Row], compared: bool, tuned: bool) -> str:
    """The rows of a sweep's table as a Markdown table."""
    return drawn(rows, columns_of(rows[0]["measure"], compared, tuned))


def drawn(rows: list[Row], shown: dict[str, Column]) -> str:
    """The rows as a Markdown table; a column without any number is left out."""
    columns = {name: [column(row) for row in rows] for name, column in shown.items()}
    columns = {name: values for name, values in columns.items() if any(values)}
    align = ["---" if name.startswith(LEFT) else "---:" for name in columns]
    table = [list(columns), align, *zip(*columns.values(), strict=True)]
    return "\n".join(f"| {' | '.join(map(escaped, cells))} |" for cells in table)


def escaped(text: str) -> str:
    """A cell of a Markdown table: on one line, and no sign of the text ends it or begins a tag."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def number(value: float | None, pattern: str, spread: float | None = None) -> str:
    """The value, ± its spread where there is one; nothing for None."""
    if value is None:
        return ""
    return pattern.format(value) + (f" ± {pattern.format(spread)}" if spread is not None else "")


def score_of(row: Row, pattern: str) -> str:
    """The score, ± its spread over seeds; or how many trainings diverged."""
    lost = diverged(row.get("diverged") or 0, row.get("seeds") or 1)
    return lost or number(row["score_mean"], pattern, row["score_std"])


def difference(row: Row, digits: int) -> str:
    """The difference to the reference, its interval and the verdict."""
    if row.get("diff_to_lora") is None:
        return row.get("diff_verdict") or ""
    mean, low, high = (f"{row[key]:+.{digits}f}" for key in ("diff_to_lora", "diff_low", "diff_high"))
    small = f", {equivalent(row['diff_equivalent'])}" if row.get("diff_equivalent") else ""
    return f"{mean} [{low}, {high}] {row['diff_verdict']}{small}"


# How the names of columns of text begin.
LEFT = ("method", "config", "base", "difference", "after", "verdict", "loss verdict", "tier", "third")


def columns_of(shown: Measure, compared: bool, tuned: bool) -> dict[str, Column]:
    """The columns by name; without those of the paper, and the rate, where not asked for."""
    score, second = f"{{:.{shown.digits}f}}", f"{{:.{shown.second_digits}f}}"
    columns: list[tuple[str | None, Column, bool]] = [  # the last says whether it is shown
        ("method", lambda row: row["method"], True),
        ("config name", lambda row: row["config_method"], True),
        ("base", lambda row: row["quant"], True),
        ("rank", lambda row: number(row["rank"], "{}"), True),
        ("learning rate", lambda row: number(row["learning_rate"], "{:g}"), tuned),
        ("trained parameters", lambda row: number(row["trainable_parameters"], "{:,}"), True),
        ("final loss", lambda row: number(row["final_loss_mean"], "{:.4f}", row["final_loss_std"]), True),
        ("loss, paper", lambda row: number(row["paper_loss"], "{:.4g}"), compared),
        ("loss verdict", lambda row: row["loss_verdict"] or "", compared),
        (f"{shown.name}, {shown.symbol}", lambda row: score_of(row, score), True),
        (shown.second_head, lambda row: number(row["second_mean"], second, row["second_std"]), True),
        (f"difference, {shown.points}", lambda row: difference(row, shown.digits), True),
        ("after Holm", lambda row: family.shown(row, "diff_p"), True),
        ("error reduction, %", lambda row: number(row["error_reduction_percent"], "{:.1f}"), True),
        ("time, s", lambda row: number(row["train_seconds_mean"], "{:.0f}"), True),
        ("memory, GiB", lambda row: number(row["peak_memory_gib"], "{:.1f}"), True),
        (f"paper, {shown.symbol}", lambda row: number(row["paper_value"], score, row["paper_std"]), compared),
        ("verdict", lambda row: row["verdict"], compared),
        ("verdict after Holm", lambda row: family.shown(row, "verdict_p"), compared),
        ("tier", lambda row: row["paper_tier"] or "", compared),
        ("third party", lambda row: row["third_party"] or "", True),
    ]
    return {name: column for name, column, wanted in columns if wanted and name is not None}
