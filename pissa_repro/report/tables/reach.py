"""After how many steps a method has the final loss of the reference."""

from pathlib import Path
from statistics import median

from pissa_repro.plan.cells import Cell, by_seed
from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.tables import captions
from pissa_repro.report.tables.captions import NO_REFERENCE, REFERENCE
from pissa_repro.report.tables.columns import diverged
from pissa_repro.report.tables.grid import Column, drawn, number
from pissa_repro.report.tables.table import Row, Table
from pissa_repro.results.curves import Curve, read_curve
from pissa_repro.results.reach import reached, smoothed, width
from pissa_repro.results.rows import reference_cells

COLUMNS = (
    "model data method config_method quant rank learning_rate seeds diverged steps final_loss reference target_loss "
    "reached steps_median steps_low steps_high share_of_reference"
).split()
CAPTION = (
    "The first step at which the loss, as the mean over {over} steps in a row (a tenth of the reference's training), "
    "is at or below the reference's final loss, which is the mean over its last {over} steps; by seed, against the "
    "same seed. Median and range over the seeds that get there, and how many do. Share: of the steps after which the "
    "reference itself first gets there. A step of one method may take longer than that of another."
)


def reach(sweep: Sweep, results: Path, heading: str) -> Table:
    """A row for each setting over its seeds. Raises UserError for a curve that is missing or damaged."""
    groups = by_seed(sweep.cells.values())
    firsts = [cells[0] for cells in groups]
    curves = {cells[0].name: read_curve(results, cells, "loss") for cells in groups}
    rows = [_row(sweep, cells, curves, firsts) for cells in groups]
    places = dict.fromkeys((row["model"], row["data"]) for row in rows)
    parts = [_part(heading, [row for row in rows if (row["model"], row["data"]) == place]) for place in places]
    return Table(tuple(COLUMNS), rows, "\n\n".join(parts) + "\n")


def _row(sweep: Sweep, cells: list[Cell], curves: dict[str, Curve], firsts: list[Cell]) -> Row:
    cell, config, curve = cells[0], sweep.config, curves[cells[0].name]
    row: Row = {
        "model": config["models"][cell.model].get("display", cell.model),
        "data": config["datasets"][cell.data].get("display", cell.data),
        "method": sweep.display(cell), "config_method": cell.method, "quant": cell.quant, "rank": cell.rank or None,
        "learning_rate": cell.learning_rate, "seeds": len(cells),
        "diverged": curve.diverged or None, "steps": len(curve.steps), "final_loss": _final(curve),
    }  # fmt: skip
    beside = reference_cells(sweep, cell, firsts) or reference_cells(sweep, cell, firsts, same_rate=False)
    if len(beside) != 1 or curve.diverged:
        return row
    other = curves[beside[0].name]
    if other.diverged:
        return row | {"reference": NO_REFERENCE}
    over = width(len(other.steps))
    row |= {"reference": REFERENCE if beside[0] == cell else sweep.display(beside[0]), "over": over}
    row["target_loss"] = _final(other)
    steps = [step for step in reached(curve, other) if step is not None]
    row["reached"] = len(steps)
    if not steps:
        return row
    own = [step for step in reached(other, other) if step is not None]
    row |= {"steps_median": median(steps), "steps_low": min(steps), "steps_high": max(steps)}
    return row | {"share_of_reference": median(steps) / median(own)}


def _final(curve: Curve) -> float | None:
    """The final loss, the mean over seeds; None where one diverged."""
    return None if curve.diverged else float(smoothed(curve.values, width(len(curve.steps)))[:, -1].mean())


def _part(heading: str, rows: list[Row]) -> str:
    title = f"## {heading}: {rows[0]['model']}, trained on {rows[0]['data']}"
    over = dict.fromkeys(str(row["over"]) for row in rows if "over" in row)
    words = [CAPTION.format(over=" or ".join(over))] if over else []
    return "\n\n".join([title, drawn(rows, SHOWN), " ".join(words + captions.diverged(rows))])


def _steps(row: Row) -> str:
    if row.get("reference") == NO_REFERENCE:
        return NO_REFERENCE
    if row.get("steps_median") is None:
        return "never" if row.get("reached") == 0 else ""
    return f"{row['steps_median']:g} [{row['steps_low']}, {row['steps_high']}]"


def _seeds(row: Row) -> str:
    return "" if row.get("reached") is None else f"{row['reached']} of {row['seeds']}"


SHOWN: dict[str, Column] = {
    "method": lambda row: row["method"],
    "base": lambda row: row["quant"],
    "rank": lambda row: number(row["rank"], "{}"),
    "learning rate": lambda row: number(row["learning_rate"], "{:g}"),
    "final loss": lambda row: diverged(row["diverged"] or 0, row["seeds"]) or number(row["final_loss"], "{:.4f}"),
    "target": lambda row: number(row.get("target_loss"), "{:.4f}"),
    "steps": _steps,
    "share": lambda row: number(row.get("share_of_reference"), "{:.2f}"),
    "seeds that get there": _seeds,
}
