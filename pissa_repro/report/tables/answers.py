"""What is learned, and what is form: a gap to the reference split into arithmetic and the way answers are given."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from pissa_repro import tasks
from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.tables import captions
from pissa_repro.report.tables.captions import NO_REFERENCE, REFERENCE
from pissa_repro.report.tables.columns import diverged, names, origin
from pissa_repro.report.tables.grid import Column, drawn, number
from pissa_repro.report.tables.table import Row, Table
from pissa_repro.results.readings import Readings, Split, readings, split
from pissa_repro.results.rows import Line, Other, lines, read_scores, references
from pissa_repro.results.stats import mean_std
from pissa_repro.runtime import paths

PARTS = {"by_marker": "gap", "arithmetic": "arithmetic", "form": "form"}  # of a Split: how its columns begin
COLUMNS = (
    "model benchmark data task method config_method quant rank learning_rate seeds diverged n by_marker_mean "
    "by_marker_std last_number_mean last_number_std marker_mean marker_std reference gap gap_low gap_high arithmetic "
    "arithmetic_low arithmetic_high form form_low form_high shown_in commit dirty"
).split()
CAPTION = (
    "By the marker: accuracy by the published answer rule (metric `paper`), which reads what follows its marker. By "
    "the last number: an answer is right where its last number is, wherever it stands, exact. With the marker: the "
    "share of answers that have it. All in percent, mean ± standard deviation over seeds. The gap to {reference}, in "
    "points, is the sum of its two parts: arithmetic is the gap by the last number, form the rest. Each has a 95 % "
    "interval of its own from the same paired bootstrap. Shown in: the parts whose interval does not hold 0. An answer "
    "that goes on after its result has another last number, and a rounded one is not exact: form holds these, too."
)
NO_GAP = "No gap for {without}: there is not one reference of the same base and rank."


def answers(sweep: Sweep, results: Path, heading: str) -> Table:
    """A row for each row of the sweep's table, of the tasks whose rules read answers again. As `lines` raises."""
    files = {name: sweep.config["tasks"][name]["task"] for name in sweep.config["sweep"]["tasks"]}
    part = sweep.with_tasks([name for name, file in files.items() if tasks.rereads(file)])
    found, others = lines(part, read_scores(paths.scores(results)), results)
    shown: list[Line | Other] = [*others, *found]
    read = {line: readings(line, files[line.task], results) for line in shown}
    rows = [_row(part, line, read, found) for line in read]
    places = dict.fromkeys((row["task"], row["model"], row["data"]) for row in rows)
    at = [[row for row in rows if (row["task"], row["model"], row["data"]) == place] for place in places]
    return Table(tuple(COLUMNS), rows, "\n\n".join(_part(heading, here) for here in at) + "\n")


def _row(sweep: Sweep, line: Line | Other, read: Mapping[Line | Other, Readings], found: list[Line]) -> Row:
    """All columns of one row: its readings in percent, and its gap to the one reference, where there is one."""
    one = line.first if isinstance(line, Line) else line.adopted
    row: Row = {**names(sweep, one, line.task), "seeds": len(line.scores), "n": line.scores.shape[1]}
    if isinstance(line, Line):
        row |= {"rank": line.first.rank or None, "learning_rate": line.first.learning_rate}
    if line.diverged:
        return row | {"diverged": line.diverged} | origin(line)
    for name in ("by_marker", "last_number", "marker"):
        by_seed = 100 * getattr(read[line], name).mean(axis=1)
        row[f"{name}_mean"], row[f"{name}_std"] = mean_std(by_seed)
    return row | (_gap(sweep, line, read, found) if isinstance(line, Line) else {}) | origin(line)


def _gap(sweep: Sweep, line: Line, read: Mapping[Line | Other, Readings], found: list[Line]) -> Row:
    beside = references(sweep, line, found) or references(sweep, line, found, same_rate=False)
    if len(beside) != 1 or line.scores.shape[1] < 2 or read[line].by_marker.shape != read[beside[0]].by_marker.shape:
        return {}
    if beside[0].diverged:
        return {"reference": NO_REFERENCE}
    label = sweep.display(beside[0].first)
    if beside[0] is line:
        return {"reference": REFERENCE}
    parts = split(read[line], read[beside[0]], (sweep.display(line.first), label))
    return {"reference": label, "shown_in": _shown(parts), **_columns(parts)}


def _columns(parts: Split) -> Row:
    row: Row = {}
    for name, column in PARTS.items():
        part = getattr(parts, name)
        row |= {column: 100 * part.mean, f"{column}_low": 100 * part.low, f"{column}_high": 100 * part.high}
    return row


def _shown(parts: Split) -> str:
    """The parts of a gap whose intervals do not hold 0."""
    named = {"arithmetic": parts.arithmetic, "form": parts.form}
    return " and ".join(name for name, part in named.items() if part.low > 0 or part.high < 0) or "neither"


def _part(heading: str, rows: list[Row]) -> str:
    title = f"## {heading}: {{model}}, trained on {{data}}, scored on {{benchmark}} (task {{task}})".format(**rows[0])
    named = dict.fromkeys(row["method"] for row in rows if row.get("reference") == REFERENCE)
    alone = (row for row in rows if "learning_rate" in row and not (row.get("reference") or row.get("diverged")))
    without = dict.fromkeys(row["method"] for row in alone)
    words = [CAPTION.format(reference=" or ".join(named) or "the reference")]
    words += [NO_GAP.format(without=", ".join(without))] if without else []
    return "\n\n".join([title, drawn(rows, SHOWN), " ".join(words + captions.diverged(rows))])


def _percent(name: str, row: Row) -> str:
    return number(row.get(f"{name}_mean"), "{:.2f}", row.get(f"{name}_std"))


def _by_marker(row: Row) -> str:
    return diverged(row.get("diverged") or 0, row["seeds"]) or _percent("by_marker", row)


def _interval(name: str, row: Row) -> str:
    if row.get(name) is None:
        return row.get("reference") or "" if name == "gap" else ""
    return f"{row[name]:+.2f} [{row[f'{name}_low']:+.2f}, {row[f'{name}_high']:+.2f}]"


SHOWN: dict[str, Column] = {
    "method": lambda row: row["method"],
    "base": lambda row: row["quant"],
    "rank": lambda row: number(row.get("rank"), "{}"),
    "learning rate": lambda row: number(row.get("learning_rate"), "{:g}"),
    "by the marker": _by_marker,
    "by the last number": partial(_percent, "last_number"),
    "with the marker": partial(_percent, "marker"),
    "gap": partial(_interval, "gap"),
    "= arithmetic": partial(_interval, "arithmetic"),
    "+ form": partial(_interval, "form"),
    "difference shown in": lambda row: row.get("shown_in") or "",
}
