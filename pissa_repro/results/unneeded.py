"""What lies in a sweep's folders and no table needs: found with its size, and removed with its lock held.

Never a record, and nothing outside of results/ and scratch/. What a cell has left that the config does not have is
listed alone: another config may have it.
"""

import contextlib
import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pissa_repro.plan import studies
from pissa_repro.plan.batches import Batches
from pissa_repro.plan.sweep import Sweep
from pissa_repro.results.status import Found, holders_in
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.lock import alone, holder

KINDS = {
    "scratch": "checkpoints of a cell that is trained",
    "leftovers": "half of a folder or file, left by a kill; the whole one is there",
    "generations": "generated for another spec of a cell that is scored",
    "weights": "of full fine-tuning, scored on all swept tasks; another task would train the cell again",
    "decompositions": "singular vectors that further starts of the same weights would not have to compute",
    "other cells": "of a cell that this config does not have; only listed",
}
OTHERS = "other cells"
ASKED_FOR = ("weights", "decompositions")  # removed only where the user says so


@dataclass(frozen=True)
class Unneeded:
    """A file or folder. size: bytes. place: what a process that works on it has locked."""

    kind: str
    path: Path
    size: int
    place: Path


class Rest:
    """Looks for what is not needed of a sweep whose jobs have been looked at."""

    def __init__(self, sweep: Sweep, results: Path, found: Iterable[Found]):
        self.sweep, self.results = sweep, results
        self.scratch, self.cells = paths.at(paths.SCRATCH, results), paths.cells(results)
        self.finished = {one.job.record for one in found if one.finished and one.changed}

    def find(self, current: Collection[Path]) -> Iterator[Unneeded]:
        """All that is not needed, by kind. current: the files of generations that the config's scores are made from.

        What somebody works on is left out.
        """
        for one in (*self._scratch(), *self._cells({path.name for path in current}), *self._decomposed()):
            if _within(one.path, (self.results, self.scratch)) and not self._busy(one):
                yield one

    def _trained(self, name: str) -> bool:
        return paths.cell(name).train in self.finished

    def _scored(self, name: str) -> bool:
        return all(paths.cell(name).score(task) in self.finished for task in self.sweep.config["sweep"]["tasks"])

    def _scratch(self) -> Iterator[Unneeded]:
        kept = paths.at(paths.DECOMPOSED, self.results)
        for folder in _cell_folders(self.scratch):
            place = folder.with_name(folder.name.removeprefix("."))  # hidden: what a kill has left of `remove`
            name = place.relative_to(self.scratch).as_posix()
            if kept in folder.parents or (name in self.sweep.cells and not self._trained(name)):
                continue
            kind = OTHERS if name not in self.sweep.cells else "scratch" if place == folder else "leftovers"
            yield Unneeded(kind, folder, size_of(folder), place)

    def _cells(self, current: Collection[str]) -> Iterator[Unneeded]:
        for folder in _cell_folders(self.cells):
            name = folder.relative_to(self.cells).as_posix()
            place = self.scratch / name
            if name in self.sweep.others:
                yield from self._stale(name, folder, current)
            elif name not in self.sweep.cells:
                yield Unneeded(OTHERS, folder, size_of(folder), place)
            elif self._trained(name):
                yield from (Unneeded("leftovers", path, size_of(path), place) for path in _leftovers(folder))
                yield from self._stale(name, folder, current)
                if self._has_weights(name, folder):
                    trained = paths.Cell(folder).trained
                    yield Unneeded("weights", trained, size_of(trained), place)

    def _stale(self, name: str, folder: Path, current: Collection[str]) -> Iterator[Unneeded]:
        """Generations on swept tasks that have a score, made from another spec than that one."""
        for path in sorted(paths.Cell(folder).generated.glob("*.jsonl")):
            task = path.stem.rpartition("-")[0]
            swept = task in self.sweep.config["sweep"]["tasks"]
            if swept and path.name not in current and paths.cell(name).score(task) in self.finished:
                yield Unneeded("generations", path, size_of(path), path)

    def _has_weights(self, name: str, folder: Path) -> bool:
        """Whether a cell has the weights of a whole model, and all is there that is made from them."""
        cell, home = self.sweep.cells[name], paths.Cell(folder)
        if self.sweep.has_factors(cell) or not home.trained.is_dir() or not self._scored(name):
            return False
        asked = [paths.parity(name, *pair, self.results) for pair in self._pairs]
        asked += [home.updates] if name in self._moved else []
        return all(path.exists() for path in asked)

    @cached_property
    def _pairs(self) -> list[tuple[str, str]]:
        return Batches(self.sweep).pairs()

    @cached_property
    def _moved(self) -> set[str]:
        return {cell.name for cell in studies.moved(self.sweep)}

    def _decomposed(self) -> Iterator[Unneeded]:
        kept = paths.at(paths.DECOMPOSED, self.results)
        if kept.is_dir():
            yield Unneeded("decompositions", kept, size_of(kept), kept)

    def _busy(self, one: Unneeded) -> bool:
        """Whether somebody works on it, or on the cell that it is of."""
        held = [holder(one.place)]
        if one.kind == "weights":
            held += holders_in(paths.Cell(one.path.parent).generated)
        return any(one and one.alive is not False for one in held)


def remove(one: Unneeded, results: Path) -> None:
    """Remove it while nobody else can work on it. Raises UserError while somebody does, and OSError.

    A folder first loses its name: what a kill leaves of it is a leftover, and not half of something that looks whole.
    """
    if one.kind == OTHERS or not _within(one.path, (results, paths.at(paths.SCRATCH, results))):
        raise UserError(f"{one.path}: not removed, it is of no cell of this config or lies elsewhere.")
    with alone(one.place, "working in"):  # said of the other one
        if not one.path.is_dir():
            one.path.unlink()
            return
        hidden = one.path if one.path.name.startswith(".") else one.path.with_name(f".{one.path.name}")
        if hidden != one.path:
            shutil.rmtree(hidden, ignore_errors=True)
            one.path.rename(hidden)
        shutil.rmtree(hidden)


def refuse_running(results: Path) -> None:
    """Raise UserError while Snakemake has the folder: its next job may want what is removed."""
    locks = paths.home(results) / ".snakemake" / "locks"
    if locks.is_dir() and any(locks.iterdir()):
        raise UserError(
            f"{locks.parent}: snakemake is running here, or was killed. Wait for it; after a kill, "
            "`snakemake --unlock` says that nothing runs."
        )


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files of a folder; links are not followed."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total


def _cell_folders(root: Path) -> list[Path]:
    """The folders at the depth of cells: model/data/cell."""
    return sorted(path for path in root.glob("[!.]*/[!.]*/*") if path.is_dir())


def _leftovers(folder: Path) -> list[Path]:
    """What killed jobs have left half in a cell's folder (runtime/record.py, atomic, atomic_folder)."""
    hidden = (path for path in folder.iterdir() if path.name.startswith(".") and not path.name.endswith(".lock"))
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")} | {
        paths.Cell(folder).trained.name
    }
    whole = [f".{name}." for name in names]
    return sorted(path for path in hidden if any(f"{path.name}.".startswith(name) for name in whole))


def _within(path: Path, roots: Iterable[Path]) -> bool:
    """Whether a path is no link, and lies below one of the folders, whatever links lead there."""
    if path.is_symlink():
        return False
    real = path.resolve()
    return any(real != root.resolve() and real.is_relative_to(root.resolve()) for root in roots)
