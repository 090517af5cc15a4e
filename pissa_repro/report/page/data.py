"""What the report page shows: settings over seeds, single runs with their state, curves; all as plain types."""

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from pissa_repro.plan.batches import Batches
from pissa_repro.plan.cells import by_seed
from pissa_repro.plan.jobs import jobs
from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.page.settings import Row, settings
from pissa_repro.results.curves import read_curve
from pissa_repro.results.measure import measure_of
from pissa_repro.results.rows import Scores
from pissa_repro.results.status import STATES, Found, Status
from pissa_repro.runtime import paths
from pissa_repro.runtime.record import read_json
from pissa_repro.tasks import METRIC

POINTS = 60  # of a curve, about: each the mean of a block of steps
DIGITS = 5  # significant ones of a point of a curve
MISSING = "missing"  # of a run that waits for nothing but its turn
GIB = 2**30


def gather(sweep: Sweep, results: Path, files: Sequence[str] = ()) -> dict[str, Any]:
    """All that the page shows. files: the config files, for the commands that make a run again.

    {"settings", "runs", "curves", "states", "meanings"}: a row for each setting and task (see settings.py), which names
    its "runs" and its "curve" by their place in these lists; "states" counts the runs, by state. "errors" of a setting
    on a quantized base: by how many percent less than plain quantization its start errs, by type of module. Numbers are
    those of scores.csv and of the sweep's tables. Raises UserError where the folder is none, and as tables do.
    """
    found = Status(jobs(sweep, Batches(sweep)), results).look()
    by_record = {one.job.record: one for one in found}
    done = {path for path, one in by_record.items() if one.finished and one.changed}  # changed: the record is there
    rows, facts = settings(sweep, results, done)
    runs: list[Row] = []
    curves, curve_of = _curves(sweep, results, done)
    errors = _errors(sweep, results, done)
    for row in rows:
        names = row.pop("cells")
        row["runs"] = list(range(len(runs), len(runs) + len(names)))
        row["curve"], row["errors"] = curve_of.get(names[0]), errors.get(names[0])
        runs += [_run(sweep, name, row["task"], by_record, facts, files) for name in names]
        row["state"] = _together(runs[-len(names) :])
    _pair(rows, runs)
    states = Counter(run["state"] for run in runs)
    meanings = {**STATES, MISSING: "not made yet"}
    return {
        "settings": rows,
        "runs": runs,
        "curves": curves,
        "states": {state: states[state] for state in meanings if states[state]},
        "meanings": {state: meanings[state] for state in meanings if states[state]},
    }


def _pair(rows: list[Row], runs: list[Row]) -> None:
    """Each run of a setting with a reference also says the place of the reference's run of the same seed."""
    places = {(row["task"], runs[place]["cell"]): place for row in rows for place in row["runs"]}
    for row in rows:
        for place, cell in zip(row["runs"], row.pop("against", ()), strict=False):  # some have none
            runs[place]["against"] = places[row["task"], cell]


def _together(runs: list[Row]) -> str:
    """The state of a setting: that of its runs, or how many are in which."""
    counts = Counter(run["state"] for run in runs)
    return next(iter(counts)) if len(counts) == 1 else ", ".join(f"{count} {state}" for state, count in counts.items())


def _run(sweep: Sweep, name: str, task: str, by_record: dict[Path, Found], facts: Scores, files: Sequence[str]) -> Row:
    """One score of one cell: its numbers as in scores.csv, its state, and where its record and its log are."""
    record = paths.cell(name).score(task)
    found = by_record[record]
    stopped = found.cause if found.cause and found.cause.state not in ("ready", "waiting") else found
    fact = facts.get((name, task, METRIC))
    gone = found.finished and fact is None  # the record of its training: a table may be there all the same
    state = MISSING if gone or stopped.state in ("ready", "waiting") else stopped.state
    job = f"{stopped.job.stage} {stopped.job.name}: " if stopped is not found else ""
    why = f"{paths.cell(name).train}: no such record" if gone else f"{job}{stopped.why}".removesuffix(": ")
    known = _numbers(sweep, fact, task)
    config = ["--configfile", *files] if files else []
    return known | {
        "cell": name,
        "seed": getattr(sweep.scored(name), "seed", None),
        "state": state,
        "why": why,
        "record": str(record),
        "log": str(stopped.job.log),
        "command": shlex.join(["snakemake", "--cores", "all", str(record), *config]),
    }


def _numbers(sweep: Sweep, fact: dict[str, str] | None, task: str) -> Row:
    """The numbers of a row of scores.csv; the score and its error in the unit of the tables."""
    if fact is None:
        return {}
    scale = measure_of(sweep.config["tasks"][task]["task"]).scale
    read = {key: float(fact[key]) for key in ("value", "stderr", "n", "final_loss", "train_seconds") if fact[key]}
    read |= {key: scale * read[key] for key in ("value", "stderr") if key in read}
    if peak := fact["gpu_memory_bytes"] or fact["memory_bytes"]:
        read["memory_gib"] = float(peak) / GIB
    return read | {"commit": fact["commit"], "dirty": fact["dirty"] == "True"}


def _curves(sweep: Sweep, results: Path, done: set[Path]) -> tuple[list[Row], dict[str, int]]:
    """The loss over the steps of each setting, over the seeds that are there, and the place of its curve by cell."""
    curves: list[Row] = []
    place: dict[str, int] = {}
    for cells in by_seed(sweep.cells.values()):
        there = [cell for cell in cells if paths.cell(cell.name).train in done]
        if there:
            place |= {cell.name: len(curves) for cell in cells}
            curve = read_curve(results, there, "loss")
            curve = curve.blocks(-(-len(curve.steps) // POINTS))
            values = curve.values
            lines = {"mean": values.mean(axis=0), "low": values.min(axis=0), "high": values.max(axis=0)}
            curves.append(
                {"seeds": len(there), "steps": _points(curve.steps), **{k: _points(v) for k, v in lines.items()}}
            )
    return curves, place


def _errors(sweep: Sweep, results: Path, done: set[Path]) -> dict[str, dict[str, float]]:
    """The error reductions of the starts of each setting, the mean over its starts, by its first cell."""
    reductions = {}
    for cells in by_seed(sweep.cells.values()):
        records = [paths.start_error(start) for start in dict.fromkeys(cell.start for cell in cells)]
        if all(record in done for record in records):  # none is of a base that is not quantized
            found = [read_json(paths.at(record, results))["reduction"] for record in records]
            reductions[cells[0].name] = {kind: fmean(one[kind] for one in found) for kind in found[0]}
    return reductions


def _points(values: Any) -> list[float | None]:
    """Numbers with few digits; None for what is none, where a training diverged."""
    return [float(f"{value:.{DIGITS}g}") if value == value else None for value in values]
