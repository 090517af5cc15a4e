"""What a results folder holds, as units that are joined or refused whole: a record, and the files that go with it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pissa_repro.results.records import Fetched
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import read_json, sha256

HERE = Path()
_CELL = paths.cell("*/*/*", HERE)


class Kind(NamedTuple):
    """Records of one kind. files: beside such a record, files or folders, which may be missing. needs: its keys."""

    records: Path
    files: tuple[str, ...] = ()
    needs: tuple[str, ...] = ("spec",)


MODELS = Kind(paths.model("*", HERE), needs=("fingerprint",))
ROWS = Kind(paths.data("*", HERE), ("{name}.jsonl",), ("sha256",))
STARTS = Kind(paths.start_record("*/*", HERE), (".",), ("spec", "base"))
TRAININGS = Kind(_CELL.train, (_CELL.steps.name, _CELL.trained.name), ("spec", "base", "trained_sha256"))
GENERATED = Kind(_CELL.generated / "*.jsonl", needs=())
BATCHES = Kind(paths.batch("*/*/*", HERE), needs=("spec", "jobs", "data_sha256", "refused", "provenance"))
SCORES = Kind(
    _CELL.score("*"),
    (f"{{name}}{paths.SAMPLES}", f"{{name}}{paths.JUDGEMENTS}"),
    ("spec", "base", "data_sha256", "trained_sha256"),
)
# In the order in which the workflow makes them. What is not here is made again: admissions, tables, scores.csv.
KINDS = (
    MODELS, ROWS, Kind(paths.statistics_record("*/*/*", HERE), (".",)), STARTS, Kind(paths.start_error("*/*", HERE)),
    TRAININGS, GENERATED, BATCHES, SCORES, Kind(_CELL.trained_error), Kind(_CELL.updates),
    Kind(paths.parity("*/*/*", "*", "*", HERE), needs=()), Kind(paths.study("*", "*.json", HERE), ("{name}.csv",)),
    Kind(paths.toy(HERE)),
)  # fmt: skip
# What has to be equal where two folders have a unit of one name. Where a model was fetched from is none of it.
COMPARED = ("spec", "fingerprint", "sha256", "data_sha256", "start_sha256", "trained_sha256", "metrics")


@dataclass(frozen=True, eq=False)
class Unit:
    """A record in a results folder. place: its path in there; folders: those that go with it, also by their place."""

    kind: Kind
    home: Path
    place: Path
    record: dict[str, Any]
    folders: tuple[Path, ...]

    @property
    def path(self) -> Path:
        """Where the record is."""
        return self.home / self.place

    def files(self) -> list[Path]:
        """The places of all its files; none that is hidden or half written."""
        beside = (self.place.with_name(name.format(name=self.place.stem)) for name in self.kind.files if name != ".")
        inside = (path for folder in self.folders for path in (self.home / folder).rglob("*"))
        found = [self.place, *beside, *(path.relative_to(self.home) for path in inside)]
        whole = (one for one in dict.fromkeys(found) if not any(part.startswith(".") for part in one.parts))
        return [one for one in whole if (self.home / one).is_file()]

    def content(self) -> dict[str, Any]:
        """What has to be equal in a unit of the same name."""
        kept = {key: self.record[key] for key in COMPARED if key in self.record}
        if self.kind in (MODELS, ROWS):
            kept.pop("spec", None)  # it says from where
        base = {"weights": self.record["base"]["fingerprint"]} if "base" in self.record else {}
        return {**kept, **base, **({"factors": _factors(self.path.parent)} if self.kind is STARTS else {})}


Units = dict[Path, Unit]  # by their place


def read(home: Path) -> Units:
    """The units of a results folder by their place, in the order of KINDS; a cell without a training is left out.

    Raises UserError where the folder has none, and for a record that is damaged or of another version.
    """
    if not paths.cells(home).is_dir():
        near = home / paths.RESULTS
        hint = f" Did you mean {near}?" if paths.cells(near).is_dir() else ""
        raise UserError(f"{home}: no results folder, it has no {paths.cells(HERE)}/.{hint}")
    found = {unit.place: unit for kind in KINDS for unit in _of_kind(kind, home)}
    trained = {unit.place.parent for unit in found.values() if unit.kind is TRAININGS}
    inside = paths.cells(HERE).parts
    return {
        place: unit
        for place, unit in found.items()
        if place.parts[: len(inside)] != inside or trained & {*place.parents}
    }


def _of_kind(kind: Kind, home: Path) -> Iterator[Unit]:
    for path in sorted(home.glob(str(kind.records))):
        record = read_json(path) if path.suffix == ".json" else {}
        missing = [key for key in kind.needs if key not in record] if isinstance(record, dict) else ["spec"]
        if missing:
            raise UserError(f"{path}: not a record of this version, it has no {missing[0]}. Delete it and run again.")
        folders = (path.with_name(name) if name != "." else path.parent for name in kind.files)
        there = tuple(folder.relative_to(home) for folder in folders if folder.is_dir())
        yield Unit(kind, home, path.relative_to(home), record, there)


def check(units: Units) -> None:
    """Raise UserError for a unit that was made from other weights, rows or factors than its own folder holds."""
    from pissa_repro.training.cell import verified  # with torch, which --help does not need

    rows = {unit.record["sha256"] for unit in units.values() if unit.kind is ROWS}
    for unit in units.values():
        fetched, record = Fetched(unit.home), unit.record
        if unit.kind is ROWS and sha256(unit.path.with_suffix(".jsonl")) != record["sha256"]:
            raise UserError(f"{unit.path.with_suffix('.jsonl')}: not as it was fetched. Fetch it again.")
        if unit.kind in (TRAININGS, SCORES):
            _, model, data, *_ = unit.place.parts
            own = data if unit.kind is TRAININGS and "data_sha256" in record else None
            fetched.compare(unit.path, record, model, own)
        if unit.kind is TRAININGS and unit.folders:
            verified(paths.Cell(unit.path.parent).trained, None)
        if unit.kind is SCORES:
            fetched.compare_trained(unit.path, record, paths.cell_of(unit.path).train)
            if record["data_sha256"] not in rows:
                raise UserError(f"{unit.path}: its rows are no longer in {paths.rows_folder(unit.home)}. Delete it.")


def _factors(folder: Path) -> str:
    """What initial factors are. Raises UserError where a file is not as the start left it."""
    from pissa_repro.model.factors import sha256

    return sha256(folder)
