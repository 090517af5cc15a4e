"""The tables and figures. One exhibit is one file of this folder; it is found by its name.

A file says what its table or figure is (`Exhibit` below), which records it needs, and makes it from them; the
drawing and the words that exhibits share are in report/. Snakemake imports these files for every dry run, so they
import report/, and with it pandas and matplotlib, only inside `make`. Which cells several of them show: _parts.py.
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

    TARGET: Literal["all", "studies", "paper"]
    """The target of the workflow that makes it: `all` from the sweep's cells, `studies` from the studies, `paper` from
    cells that not every sweep has. `paper` makes whatever has a number of the paper, too."""

    NEEDS: str = "cells of the sweep"
    """What a config must have for it, in words, for those whose config has not."""

    PUBLISHED_ALONE: bool = False
    """Whether it is made from published numbers, and needs no record."""

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
    for key, choices in (("KIND", ("table", "figure")), ("TARGET", ("all", "studies", "paper"))):
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

    @property
    def about(self) -> str:
        """The first line of the exhibit's file."""
        return (self.exhibit.__doc__ or "").splitlines()[0]

    @property
    def possible(self) -> bool:
        """Whether this config has something to show in it."""
        return self.exhibit.PUBLISHED_ALONE or bool(self.exhibit.needs(self.sweep))

    def needs(self) -> list[Path]:
        """The records behind it. Raises UserError where this config has nothing to show in it."""
        if not self.possible:
            raise UserError(
                f"{self.target}: this config has nothing to show in it ({self.about}) It needs: {self.exhibit.NEEDS}. "
                "`pissa exhibits` lists what a config can make."
            )
        return self.exhibit.needs(self.sweep)


def outputs(sweep: Sweep) -> list[Output]:
    """Every table and figure that there may be of a sweep. Raises UserError for an exhibit that is not whole, and where
    the config sweeps something for an exhibit that there is not."""
    for name in sweep.config.get("exhibits", {}):
        PLUGINS.load(name, "config.exhibits")
    return [
        Output(exhibit, place, part)
        for name in PLUGINS.names()
        for exhibit in (PLUGINS.load(name),)
        for place, part in exhibit.parts(sweep.shown_in(name)).items()
    ]


def output(sweep: Sweep, kind: str, place: str) -> Output:
    """The table or figure at a place. Raises UserError with the nearest one for a place that has none."""
    known = {candidate.place: candidate for candidate in outputs(sweep) if kind == candidate.exhibit.KIND}
    if place not in known:
        raise unknown(kind, place, known, str(WHERE[kind](place)))
    return known[place]


def targets(sweep: Sweep, target: str) -> list[Path]:
    """The files that a target of the workflow makes: `all`, `studies`, or `paper`: all that the paper numbers."""
    made = (one for one in outputs(sweep) if target == one.exhibit.TARGET or (target == "paper" and one.exhibit.PAPER))
    return [one.target for one in made if one.possible]
