"""What the form of kept answers hides: read again from the samples, and a gap between two rows split by it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pissa_repro import tasks
from pissa_repro.results import stats
from pissa_repro.results.rows import Line, Other
from pissa_repro.results.scored import read_items
from pissa_repro.results.stats import Difference
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError

NAMES = ("last_number", "marker")


@dataclass(frozen=True, eq=False)
class Readings:
    """Of one row of a table, each (seeds, items) of 0 and 1: right by the published rule, right by the last number,
    and whether the answer has the marker that the published rule looks for. NaN where a training diverged.
    """

    by_marker: np.ndarray
    last_number: np.ndarray
    marker: np.ndarray


def readings(line: Line | Other, task_file: str, results: Path) -> Readings:
    """The readings of a row, from the samples of its cells. Raises UserError for a sample without its text."""
    scored = [cell.name for cell in line.cells] if isinstance(line, Line) else [line.adopted.name]
    nothing = dict.fromkeys(NAMES, np.full(line.scores.shape[1], np.nan))
    read = [
        nothing if lost else _read(paths.cell(name, results).samples(line.task), task_file)
        for name, lost in zip(scored, line.lost, strict=True)
    ]
    return Readings(line.scores, *(np.stack([of_cell[name] for of_cell in read]) for name in NAMES))


def _read(path: Path, task_file: str) -> dict[str, np.ndarray]:
    """The readings (items,) of one samples file, by their names."""
    rules, found = tasks.load(task_file).rules, []
    for row in read_items(path)[0]:
        target, generated = row.get("target"), row.get("generated")
        if not isinstance(target, str) or not isinstance(generated, str):
            raise UserError(f"{path}: item {row['id']} has no text that was generated, or no target. Make it again.")
        found.append(rules.reread(target, generated))
    return {name: np.array([one[name] for one in found]) for name in NAMES}


@dataclass(frozen=True)
class Split:
    """A difference between two rows: by the published rule, and its two parts, which add up to it.

    arithmetic: by the last number. form: the rest, what the published rule makes of other forms of the same answers.
    """

    by_marker: Difference
    arithmetic: Difference
    form: Difference


def split(a: Readings, b: Readings, names: tuple[str, str] = ("a", "b")) -> Split:
    """a - b, each part with its own paired interval (stats.paired_bootstrap); in the unit of the scores."""
    sides = [(one.by_marker, one.last_number, one.by_marker - one.last_number) for one in (a, b)]
    return Split(*(stats.paired_bootstrap(first, second, names) for first, second in zip(*sides, strict=True)))
