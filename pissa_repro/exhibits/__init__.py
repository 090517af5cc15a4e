"""The tables and figures. One exhibit is one file of this folder; it is found by its name.

A file says what its table or figure is (`Exhibit` below), which records it needs, and makes it from them; the
drawing and the words that exhibits share are in report/. Snakemake imports these files for every dry run, so they
import report/, and with it pandas and matplotlib, only inside `make`.
"""

import re
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError, unknown
from pissa_repro.runtime.plugins import Room

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pissa_repro.report.tables.table import Table

NUMBER = re.compile(r"(Table|Figure) \d+[a-z]?")
WHERE = {"table": paths.table, "figure": paths.figure}


class Exhibit(Protocol):
    """What a file of this folder declares. Its docstring's first line says what it shows, also in lists."""

    PAPER: str | None
    """What the paper calls it, in its version 4: "Table 8", "Figure 2b". The file then has that name: figure2b.py.
    None: it is ours."""

    KIND: Literal["table", "figure"]
    """A table is made as .csv and .md, a figure as .svg and .png."""

    TARGET: Literal["all", "studies"]
    """The target of the workflow that makes it: `all` from the sweep's cells, `studies` from the studies."""

    def parts(self, sweep: Sweep) -> dict[str, Sweep]:
        """What one file makes several of: {place below results/ or figures/: the part of the sweep that it shows}.

        By default one, of the whole sweep: in paper/ what the paper numbers, in extra/ what is ours.
        """
        folder = "paper" if self.PAPER else "extra"
        return {f"{folder}/{name_of(self)}": sweep}

    @abstractmethod
    def needs(self, sweep: Sweep) -> list[Path]:
        """The records that it is made from, below results/. Empty where this config has nothing to show in it."""

    @abstractmethod
    def make(self, sweep: Sweep, results: Path) -> "Figure | Table":
        """The figure or table, from the records in the folder `results`. Raises UserError when one is missing,
        damaged, or of another config. A figure is drawn in the style that its caller has set (report/figures/style.py).
        """


def name_of(exhibit: Exhibit) -> str:
    """The name of an exhibit's file."""
    return exhibit.__name__.rpartition(".")[2]  # type: ignore[attr-defined]  # an exhibit is a module


def complaint(exhibit: Exhibit) -> str | None:
    """What is wrong with a file beyond its names; None where nothing is."""
    for key, choices in (("KIND", ("table", "figure")), ("TARGET", ("all", "studies"))):
        if getattr(exhibit, key) not in choices:
            return f"{key} is {getattr(exhibit, key)!r}; it must be one of {', '.join(choices)}."
    if exhibit.PAPER is None:
        return None
    if not NUMBER.fullmatch(exhibit.PAPER):
        return f"PAPER is {exhibit.PAPER!r}; it must be like 'Table 8' or 'Figure 2b', or None."
    file = exhibit.PAPER.lower().replace(" ", "")
    return None if file == name_of(exhibit) else f"PAPER is {exhibit.PAPER!r}; name the file {file}.py."


PLUGINS = Room("pissa_repro.exhibits", kind="exhibit", contract=Exhibit, rule=complaint)


@dataclass(frozen=True)
class Output:
    """One table or figure to make: the exhibit's file, its place, and the part of the sweep that it shows."""

    exhibit: Exhibit
    place: str
    sweep: Sweep

    @property
    def module(self) -> str:
        """The name of the exhibit's module."""
        return f"{PLUGINS.package}.{name_of(self.exhibit)}"

    @property
    def target(self) -> Path:
        """The file to ask Snakemake for."""
        return WHERE[self.exhibit.KIND](self.place)

    def needs(self) -> list[Path]:
        """The records behind it. Raises UserError where this config has nothing to show in it."""
        found = self.exhibit.needs(self.sweep)
        if not found:
            about = (self.exhibit.__doc__ or "").splitlines()[0]
            raise UserError(f"{self.target}: this config has nothing to show in it ({about})")
        return found


def outputs(sweep: Sweep) -> list[Output]:
    """Every table and figure that there may be of a sweep. Raises UserError for an exhibit that is not whole."""
    return [
        Output(exhibit, place, part)
        for exhibit in map(PLUGINS.load, PLUGINS.names())
        for place, part in exhibit.parts(sweep).items()
    ]


def output(sweep: Sweep, kind: str, place: str) -> Output:
    """The table or figure at a place. Raises UserError with the nearest one for a place that has none."""
    known = {one.place: one for one in outputs(sweep) if kind == one.exhibit.KIND}
    if place not in known:
        raise unknown(kind, place, known, str(WHERE[kind](place)))
    return known[place]


def targets(sweep: Sweep, target: str) -> list[Path]:
    """The files that a target of the workflow makes: `all` or `studies`."""
    return [one.target for one in outputs(sweep) if target == one.exhibit.TARGET and one.exhibit.needs(one.sweep)]
