"""How often each method is better than the others on its base, with and without a correction for so many pairs."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.tables import captions
from pissa_repro.report.tables.columns import diverged, names
from pissa_repro.report.tables.grid import Column, drawn, score_of
from pissa_repro.report.tables.table import Row, Table
from pissa_repro.results.measure import verdict
from pissa_repro.results.rows import Line, lines, read_scores
from pissa_repro.results.wins import Duel, Group, groups
from pissa_repro.runtime import paths

COLUMNS = (
    "model benchmark data task quant a b config_a config_b rank_a rank_b learning_rate_a learning_rate_b seeds "
    "diverged n unit difference low high p p_holm verdict verdict_holm"
).split()
IN_NONE = "A row that diverged is in no pair."
WORDS = {1: "better", 0: "no difference shown", -1: "worse"}
CAPTION = (
    "Each of the {pairs} pairs of these {count} rows is compared on the same {n} items and {seeds} seeds. Better and "
    "worse: the 95 % t interval over items and seeds (Cochran 1964) does not hold 0. After Holm: it is still shown "
    "where the p-values are corrected for all these pairs (Holm 1979), so that of 100 such tables at most 5 have one "
    "by chance. The CSV has every pair. With few seeds only large differences come through; not shown is not equal."
)


def wins(sweep: Sweep, results: Path, heading: str) -> Table:
    """A row of the CSV for each pair, and for each row that diverged; as text, a row for each method. As `lines`."""
    found = groups(lines(sweep, read_scores(paths.scores(results)), results)[0])
    rows = [row for group in found for row in (*(_pair(sweep, d) for d in group.duels), *_lost(sweep, group))]
    return Table(tuple(COLUMNS), rows, "\n\n".join(_part(sweep, group, heading) for group in found) + "\n")


def label(sweep: Sweep, line: Line, group: Group) -> str:
    """A row's method, with what tells it from other rows of that method: its rank, its rate."""
    cell, name = line.first, sweep.display(line.first)
    same = [other.first for other in (*group.lines, *group.lost) if sweep.display(other.first) == name]
    parts = [f"rank {cell.rank}"] if len({other.rank for other in same}) > 1 else []
    parts += [f"{cell.learning_rate:g}"] if len({other.learning_rate for other in same}) > 1 else []
    return ", ".join([name, *parts])


def _pair(sweep: Sweep, duel: Duel) -> Row:
    shown, scale = duel.a.measure, duel.a.measure.scale
    row: dict[str, Any] = {key: names(sweep, duel.a.first, duel.a.task)[key] for key in COLUMNS[:4]}
    row |= {"quant": duel.a.first.quant, "unit": shown.unit}
    row |= {"seeds": len(duel.a.scores), "n": duel.a.scores.shape[1]}
    row |= _side(sweep, duel.a, "a") | _side(sweep, duel.b, "b")
    ends = duel.mean - duel.margin, duel.mean + duel.margin
    row |= dict(zip(("difference", "low", "high"), (scale * value for value in (duel.mean, *ends)), strict=True))
    word = verdict(WORDS[duel.sign], shown.higher_is_better)
    return row | {
        "p": duel.p, "p_holm": duel.adjusted, "verdict": word, "verdict_holm": word if duel.holds else WORDS[0],
    }  # fmt: skip


def _side(sweep: Sweep, line: Line, side: str) -> Row:
    cell = line.first
    return {
        side: sweep.display(cell), f"config_{side}": cell.method, f"rank_{side}": cell.rank or None,
        f"learning_rate_{side}": cell.learning_rate,
    }  # fmt: skip


def _lost(sweep: Sweep, group: Group) -> Iterator[Row]:
    """The rows of which a training diverged, each without a second one."""
    for line in group.lost:
        row: Row = {key: names(sweep, line.first, line.task)[key] for key in COLUMNS[:4]}
        yield row | {
            "quant": line.first.quant, **_side(sweep, line, "a"), "seeds": len(line.scores), "diverged": line.diverged,
            "verdict": diverged(line.diverged, len(line.scores)),
        }  # fmt: skip


def _part(sweep: Sweep, group: Group, heading: str) -> str:
    first = group.first
    row = names(sweep, first.first, first.task) | {"base": first.first.quant}
    title = (
        f"## {heading}: {{model}}, trained on {{data}}, scored on {{benchmark}} (task {{task}}), base {{base}}".format(
            **row
        )
    )
    counts = {"pairs": len(group.duels), "count": len(group.lines)}
    words = [CAPTION.format(**counts, seeds=len(first.scores), n=first.scores.shape[1])] if group.duels else []
    rows = [_row(sweep, line, group) for line in group.lines]
    rows += [
        {"name": label(sweep, line, group), "seeds": len(line.scores), "diverged": line.diverged} for line in group.lost
    ]
    words += [*captions.diverged(rows), IN_NONE] if group.lost else []
    return "\n\n".join([title, drawn(rows, _columns(first)), " ".join(words)])


def _row(sweep: Sweep, line: Line, group: Group) -> Row:
    found = list(group.of(line))
    both = Counter(way for _, way, _ in found), Counter(way for _, way, holds in found if holds)
    score = line.measure.scale * line.scores.mean()
    return {"name": label(sweep, line, group), "score_mean": score, "score_std": None, "counts": both}


def _count(row: Row, corrected: int, way: int) -> str:
    return str(row["counts"][corrected][way]) if "counts" in row else ""


def _columns(first: Line) -> dict[str, Column]:
    shown = first.measure
    return {
        "method": lambda row: row["name"],
        f"{shown.name}, {shown.symbol}": lambda row: score_of(row, f"{{:.{shown.digits}f}}"),
        "better than": lambda row: _count(row, 0, 1),
        "worse than": lambda row: _count(row, 0, -1),
        "not shown": lambda row: _count(row, 0, 0),
        "better, after Holm": lambda row: _count(row, 1, 1),
        "worse, after Holm": lambda row: _count(row, 1, -1),
    }
