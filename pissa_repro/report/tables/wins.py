"""How often each method is better than the others on its base, with and without a correction for so many pairs."""

from collections import Counter
from pathlib import Path
from typing import Any

from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.tables.columns import names
from pissa_repro.report.tables.grid import Column, drawn, number
from pissa_repro.report.tables.table import Row, Table
from pissa_repro.results.measure import verdict
from pissa_repro.results.rows import Line, lines, read_scores
from pissa_repro.results.wins import Duel, Group, groups
from pissa_repro.runtime import paths

COLUMNS = (
    "model benchmark data task quant a b config_a config_b rank_a rank_b learning_rate_a learning_rate_b seeds n unit "
    "difference low high p p_holm verdict verdict_holm"
).split()
WORDS = {1: "better", 0: "no difference shown", -1: "worse"}
CAPTION = (
    "Each of the {pairs} pairs of these {count} rows is compared on the same {n} items and {seeds} seeds. Better and "
    "worse: the 95 % t interval over items and seeds (Cochran 1964) does not hold 0. After Holm: it is still shown "
    "where the p-values are corrected for all these pairs (Holm 1979), so that of 100 such tables at most 5 have one "
    "by chance. The CSV has every pair. With few seeds only large differences come through; not shown is not equal."
)


def wins(sweep: Sweep, results: Path, heading: str) -> Table:
    """A row of the CSV for each pair; as text, a row for each method. As `lines` raises."""
    found = groups(lines(sweep, read_scores(paths.scores(results)), results)[0])
    rows = [_pair(sweep, duel) for group in found for duel in group.duels]
    return Table(tuple(COLUMNS), rows, "\n\n".join(_part(sweep, group, heading) for group in found) + "\n")


def label(sweep: Sweep, line: Line, group: Group) -> str:
    """A row's method, with what tells it from other rows of that method: its rank, its rate."""
    cell, name = line.first, sweep.display(line.first)
    same = [other.first for other in group.lines if sweep.display(other.first) == name]
    parts = [f"rank {cell.rank}"] if len({other.rank for other in same}) > 1 else []
    parts += [f"{cell.learning_rate:g}"] if len({other.learning_rate for other in same}) > 1 else []
    return ", ".join([name, *parts])


def _pair(sweep: Sweep, duel: Duel) -> Row:
    shown, scale = duel.a.measure, duel.a.measure.scale
    row: dict[str, Any] = {key: names(sweep, duel.a.first, duel.a.task)[key] for key in COLUMNS[:4]}
    row |= {"quant": duel.a.first.quant, "unit": shown.unit}
    row |= {"seeds": len(duel.a.scores), "n": duel.a.scores.shape[1]}
    for side in ("a", "b"):
        cell = getattr(duel, side).first
        row |= {side: sweep.display(cell), f"config_{side}": cell.method, f"rank_{side}": cell.rank or None}
        row[f"learning_rate_{side}"] = cell.learning_rate
    ends = duel.mean - duel.margin, duel.mean + duel.margin
    row |= dict(zip(("difference", "low", "high"), (scale * value for value in (duel.mean, *ends)), strict=True))
    word = verdict(WORDS[duel.sign], shown.higher_is_better)
    return row | {
        "p": duel.p, "p_holm": duel.adjusted, "verdict": word, "verdict_holm": word if duel.holds else WORDS[0],
    }  # fmt: skip


def _part(sweep: Sweep, group: Group, heading: str) -> str:
    first = group.lines[0]
    row = names(sweep, first.first, first.task) | {"base": first.first.quant}
    title = (
        f"## {heading}: {{model}}, trained on {{data}}, scored on {{benchmark}} (task {{task}}), base {{base}}".format(
            **row
        )
    )
    counts = {"pairs": len(group.duels), "count": len(group.lines)}
    words = CAPTION.format(**counts, seeds=len(first.scores), n=first.scores.shape[1])
    return "\n\n".join([title, drawn([_row(sweep, line, group) for line in group.lines], _columns(first)), words])


def _row(sweep: Sweep, line: Line, group: Group) -> Row:
    found = list(group.of(line))
    both = Counter(way for _, way, _ in found), Counter(way for _, way, holds in found if holds)
    return {"name": label(sweep, line, group), "score": line.measure.scale * line.scores.mean(), "counts": both}


def _columns(first: Line) -> dict[str, Column]:
    shown = first.measure
    return {
        "method": lambda row: row["name"],
        f"{shown.name}, {shown.symbol}": lambda row: number(row["score"], f"{{:.{shown.digits}f}}"),
        "better than": lambda row: str(row["counts"][0][1]),
        "worse than": lambda row: str(row["counts"][0][-1]),
        "not shown": lambda row: str(row["counts"][0][0]),
        "better, after Holm": lambda row: str(row["counts"][1][1]),
        "worse, after Holm": lambda row: str(row["counts"][1][-1]),
    }
