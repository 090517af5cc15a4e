"""The settings of a sweep: a row for each over its seeds, with the columns of the sweep's tables, however far it is."""

from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Any

from pissa_repro.plan.cells import Cell, by_seed
from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.tables import captions, family, others
from pissa_repro.report.tables.columns import COLUMNS, names, origin, scores
from pissa_repro.report.tables.sweep import build, fetched
from pissa_repro.results.rows import Line, Other, Scores, at_best_rate, lines, references
from pissa_repro.results.table import COLUMNS as SCORES
from pissa_repro.results.table import rows as recorded
from pissa_repro.runtime import paths

Row = dict[str, Any]
TUNED = "diff_to_lora diff_low diff_high diff_verdict diff_holm diff_p_holm".split()


def settings(sweep: Sweep, results: Path, done: Set[Path]) -> tuple[list[Row], Scores]:
    """The rows, those without a score included, and the rows of scores.csv behind them.

    done: the records that are finished. Each row also has its "cells" by name. A setting of which seeds are missing
    has the mean of those that are there and no difference; "seeds" says how many these are, "of_seeds" of how many.
    "against" are the cells of its reference, in the order of its own. Raises UserError as tables do.
    """
    rows: list[Row] = []
    facts: Scores = {}
    hashes = fetched(sweep, results)
    for part in sweep.by_task_file().values():
        found, taken = [], []
        for task in part.config["sweep"]["tasks"]:
            kept, some, more = _scored(part.with_tasks([task]), task, results, done)
            facts |= kept
            found += some
            taken += more
        rows += _others(sweep, part.config["sweep"]["tasks"], taken)
        rows += _whole(sweep, part.config["sweep"]["tasks"], found, hashes)
    return rows, facts


def _scored(part: Sweep, task: str, results: Path, done: Set[Path]) -> tuple[Scores, list[Line], list[Other]]:
    """What is scored on a task: its rows of scores.csv, and the rows in the making of trained cells and of others."""
    there = {name for name in (*part.cells, *part.others) if _has(name, task, done)}
    known = part.only(there)
    known.others = {name: one for name, one in part.others.items() if name in there}
    if not there:
        return {}, [], []
    errors = all(paths.start_error(name) in done for name, cell in known.starts.items() if cell.quant != "none")
    made = recorded(known, results, errors)
    kept = {(row["cell"], row["task"], row["metric"]): _as_read(row) for row in made}
    return kept, *lines(known, kept, results)


def _has(name: str, task: str, done: Set[Path]) -> bool:
    home = paths.cell(name)
    return home.train in done and home.score(task) in done


def _as_read(row: Mapping[str, Any]) -> dict[str, str]:
    """A row as it is read from scores.csv."""
    return {key: "" if row.get(key) is None else str(row[key]) for key in SCORES}


def _others(sweep: Sweep, tasks: list[str], taken: list[Other]) -> Iterator[Row]:
    """The rows of what was not trained here: bases as they are, and what was trained elsewhere."""
    scored = {(line.task, line.adopted.name): line for line in taken}
    for task in tasks:
        for name, one in sweep.others.items():
            line = scored.get((task, name))
            row = others.row(sweep, line) if line else names(sweep, one, task)
            yield _shown(row) | {"cells": [name], "seeds": 1 if line else 0, "of_seeds": 1}


def _whole(sweep: Sweep, tasks: list[str], found: list[Line], hashes: Mapping[str, str]) -> Iterator[Row]:
    """The rows of trained settings in the config's order."""
    swept = by_seed(sweep.cells.values())
    built = _built(sweep, [line for line in found if line.cells in swept], hashes)
    there = {(line.task, cell.name): line for line in found for cell in line.cells}
    for task in tasks:
        for cells in swept:
            line = next((there[task, cell.name] for cell in cells if (task, cell.name) in there), None)
            row = built.get((task, cells[0].name)) or _part(sweep, task, cells, line)
            yield _shown(row) | {
                "cells": [cell.name for cell in cells],
                "seeds": len(line.cells) if line else 0,
                "of_seeds": len(cells),
            }


def _built(sweep: Sweep, found: list[Line], hashes: Mapping[str, str]) -> dict[tuple[str, str], Row]:
    """The rows of settings that have all seeds, by task and first cell.

    Where settings have several learning rates, each is compared with LoRA at its own one; and where its rate is the one
    that validation items choose, once more with LoRA at LoRA's ("tuned"). Else with LoRA at whichever rate it has.
    Exhibits may sweep some settings over other seeds: those of the same seeds are compared, as a table of their own.
    """
    cells = sweep.cells.values()
    several = len({_without_rate(cell) for cell in cells}) < len(cells)
    rows: dict[tuple[str, str], Row] = {}
    by_seeds: dict[tuple[int, ...], list[Line]] = {}
    for line in found:
        by_seeds.setdefault(tuple(cell.seed for cell in line.cells), []).append(line)
    for alike in by_seeds.values():
        own = dict(_keyed(sweep, alike, hashes, same_rate=several))
        tuned = dict(_keyed(sweep, at_best_rate(alike), hashes, same_rate=False)) if several else {}
        family.correct([*own.values(), *tuned.values()])
        rows |= own
        for key, row in tuned.items():
            rows[key]["tuned"] = {name: row[name] for name in TUNED if row.get(name) is not None}
    return rows


def _without_rate(cell: Cell) -> tuple[Any, ...]:
    return cell.model, cell.data, cell.method, cell.quant, cell.rank, cell.seed


def _keyed(
    sweep: Sweep, found: list[Line], hashes: Mapping[str, str], same_rate: bool
) -> Iterator[tuple[tuple[str, str], Row]]:
    if found:
        for line, row, claim in zip(found, *build(sweep, found, hashes, same_rate), strict=True):
            beside = references(sweep, line, found, same_rate) if claim else []
            against = [cell.name for one in beside for cell in one.cells]
            yield (line.task, line.first.name), row | {"claim": claim, "against": against}


def _part(sweep: Sweep, task: str, cells: list[Cell], line: Line | None) -> Row:
    """The row of a setting of which seeds are missing, or all."""
    first = cells[0]
    row = names(sweep, first, task) | {"rank": first.rank or None, "learning_rate": first.learning_rate}
    if line is None:
        return row
    return row | {"diverged": line.diverged or None, "n": line.scores.shape[1], "measure": line.measure,
                  **scores(line), **origin(line)}  # fmt: skip


def _shown(row: Row) -> Row:
    """A row as plain types: its columns, and what is said of it in words."""
    measure = row.get("measure")
    kept: Row = {key: row[key] for key in COLUMNS if row.get(key) is not None}
    if kept.get("diff_low") is not None:
        kept["diff_half"] = (kept["diff_high"] - kept["diff_low"]) / 2
    kept["reference"] = kept.get("diff_verdict") == captions.REFERENCE
    kept["reasons"] = list(row.get("reasons") or ())
    kept |= {key: row[key] for key in ("claim", "tuned", "against") if row.get(key)}
    if measure:
        kept |= {"higher": measure.higher_is_better, "digits": measure.digits, "points": measure.points}
    return kept
