"""Results folders that were made on several machines, taken into one. Nothing is trained, scored or measured."""

import os
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pissa_repro.results.records import differing
from pissa_repro.results.units import BATCHES, KINDS, SCORES, STARTS, TRAININGS, Unit, Units, check, read
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import atomic_folder, refuse_existing, refuse_no_space, write_json

LINKED = ".safetensors"  # weights are never written again under their name, so that two folders may share them
STAMP = ".snakemake_timestamp"  # in a folder, what Snakemake reads its time from
AS_ONE = ("version", "backend", "tasks")  # of the specs of two batches that may be one
FIRST = "--first-start"


def join(folders: Sequence[Path], out: Path, first_start: bool = False) -> list[str]:
    """Write `out`, a new results folder with what the others hold, and say in lines what that is.

    Where several have a unit, the first one's is taken, and all have to be equal in spec, weights, rows and results.
    first_start: also where starts differ; the cells of the others then keep their records, and no engine takes them.
    Raises UserError where a folder does not fit itself or the others, or `out` exists, and for a disk without room.
    """
    refuse_existing(out)
    if len({folder.resolve() for folder in folders}) < max(2, len(folders)):
        raise UserError(f"{', '.join(map(str, folders))}: give two results folders or more, each once.")
    found = [read(folder) for folder in folders]
    for units in found:
        check(units)
    groups: dict[Path, list[Unit]] = {}
    for units in found:
        for place, unit in units.items():
            groups.setdefault(place, []).append(unit)
    taken = [unit for some in groups.values() for unit in _one(some, first_start)]
    refuse_no_space(out, _copied(taken, out))
    with atomic_folder(out) as new:
        moment = time.time() - len(KINDS)
        for unit in taken:
            _place(unit, new, moment + KINDS.index(unit.kind))
    return _told(folders, found, taken, out)


def _one(units: list[Unit], first_start: bool) -> list[Unit]:
    """The unit to take of those of one name; none for batches that are not one. Raises UserError where they differ."""
    first, others = units[0], units[1:]
    if first.kind is BATCHES:
        return _batch(units)
    if not (first.kind is STARTS and first_start):
        for other in others:
            _refuse_difference(first, other)
    return [max(units, key=_worth)]  # the first one of equals


def _worth(unit: Unit) -> int:
    """Which of several to take: a model whose folder is here, the longest of generations."""
    here = "path" in unit.record and Path(unit.record["path"]).is_dir()
    return int(here) if unit.record else unit.path.stat().st_size


def _refuse_difference(first: Unit, other: Unit) -> None:
    differences = list(differing(first.content(), other.content(), "", str(first.path)))
    if not differences:
        return
    hint = "Leave one of the two out, or give one of them another name in its config and run that again."
    if first.kind is STARTS:
        hint = (
            "Starts of two kinds of machine may differ in their last bits. Copy one to the other before the training, "
            f"or give {FIRST}: only the first one's is kept, and no more can be scored of cells trained from the other."
        )
    raise UserError(f"{other.path}: of one name and not the same: {'; '.join(differences[:3])}. {hint}")


def _batch(units: list[Unit]) -> list[Unit]:
    """The marks of batches of one name as one of all their cells, where that is what one launch would have done."""
    first, records = units[0], [unit.record for unit in units]
    cells: dict[str, Any] = {}
    for record in records:
        own, told = record["spec"], records[0]["spec"]
        if any(own[key] != told[key] for key in AS_ONE) or record["data_sha256"] != records[0]["data_sha256"]:
            return []
        if any(cells.get(name, cell) != cell for name, cell in own["cells"].items()):
            return []
        cells |= own["cells"]
    jobs = list(dict.fromkeys(job for record in records for job in record["jobs"]))
    refused = {job: why for record in records for job, why in record["refused"].items()}
    made = {**records[0], "spec": {**records[0]["spec"], "cells": cells}, "jobs": jobs, "refused": refused}
    if others := [record["provenance"] for record in records[1:]]:
        made["joined"] = others
    return [Unit(first.kind, first.home, first.place, made, first.folders)]


def _linkable(path: Path, device: int) -> bool:
    return path.suffix == LINKED and path.stat().st_dev == device


def _copied(units: Iterable[Unit], out: Path) -> int:
    """Bytes of what is copied and not linked."""
    device = next(parent for parent in out.resolve().parents if parent.is_dir()).stat().st_dev
    files = (unit.home / file for unit in units for file in unit.files())
    return sum(file.stat().st_size for file in files if not _linkable(file, device))


def _place(unit: Unit, new: Path, moment: float) -> None:
    """Copy or link a unit's files. Their time is that of their kind, for Snakemake compares the times of two machines.

    moment: seconds since the epoch.
    """
    written = [new / folder / STAMP for folder in unit.folders]
    for file in unit.files():
        source, target = (unit.home / file).resolve(), new / file
        target.parent.mkdir(parents=True, exist_ok=True)
        if unit.kind is BATCHES:
            write_json(target, unit.record)
        elif source.suffix == LINKED and _linked(source, target):
            continue  # a time would be the source's, too
        else:
            shutil.copyfile(source, target)
        written.append(target)
    for path in written:
        path.touch()
        os.utime(path, (moment, moment))


def _linked(source: Path, target: Path) -> bool:
    """Whether the target is now the same file; a file system may have no links, or another device be there."""
    try:
        os.link(source, target)
    except OSError:
        return False
    return True


def _told(folders: Sequence[Path], found: list[Units], taken: list[Unit], out: Path) -> list[str]:
    """A line a folder, a line on the new one, and warnings."""
    lines = [_counts(home, units.values()) for home, units in zip(folders, found, strict=True)]
    lines.append(_counts(out, taken))
    made = [unit.record.get("provenance", {}) for unit in taken if unit.kind in (TRAININGS, SCORES)]
    origins = {"commits": {_commit(one) for one in made}}
    for one in made:
        for name, version in one.get("versions", {}).items():
            origins.setdefault(f"versions of {name}", set()).add(version)
    for what, some in origins.items():
        lines += [f"warning: made with several {what}: {', '.join(sorted(some))}."] if len(some) > 1 else []
    lost = sum(map(_unfinished, folders, found))
    bare = sum(unit.kind is TRAININGS and not unit.folders for unit in taken)
    lines += [f"warning: left out {lost} cells whose training has not ended."] if lost else []
    lines += [f"warning: {bare} cells have no weights here: no more can be scored of them."] if bare else []
    return lines


def _unfinished(home: Path, units: Units) -> int:
    """Cells of a folder that have no training's record."""
    cells = (folder.relative_to(home) for folder in paths.cells(home).glob("*/*/*") if folder.is_dir())
    return sum(paths.Cell(cell).train not in units for cell in cells)


def _counts(home: Path, units: Iterable[Unit]) -> str:
    kinds = Counter(unit.kind for unit in units)
    return f"{home}: {kinds[TRAININGS]} cells, {kinds[SCORES]} scores, {kinds[STARTS]} starts"


def _commit(provenance: Mapping[str, Any]) -> str:
    """The commit that a record was made from, in short."""
    git = provenance.get("git", {})
    return f"{(git.get('commit') or 'unknown')[:12]}{' (dirty)' if git.get('dirty') is not False else ''}"
