"""Read a record only if it was made from the spec, the weights and the rows that the config says."""

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import read_json


def checked(path: Path, spec: Mapping[str, Any]) -> Any:
    """The record at `path`. Raises UserError when it is missing or was made from another spec."""
    record = read_json(path)
    differences = list(differing(spec, record.get("spec")))
    if differences:
        raise UserError(
            f"{path} was made from another config: {'; '.join(differences[:3])}. "
            "Move the results folder away, or delete this record, and run again."
        )
    return record


def differing(wanted: Any, given: Any, place: str = "spec", source: str = "the config") -> Iterator[str]:
    """Say where two specs differ, as "spec.settings.epochs is 2, the config says 1". source: who says the wanted."""
    if isinstance(wanted, dict) and isinstance(given, dict):
        for key in sorted(wanted.keys() | given.keys()):
            yield from differing(wanted.get(key), given.get(key), f"{place}.{key}".strip("."), source)
    elif wanted != given:
        yield f"{place} is {given!r}, {source} says {wanted!r}"


def content(record: Path) -> str | None:
    """The hash of what was fetched, by its record. None before there is one. Snakemake asks once for every job."""
    return _content(record, record.stat().st_mtime_ns) if record.is_file() else None


@functools.cache
def _content(record: Path, changed: int) -> str | None:
    found = read_json(record)
    return found.get("fingerprint") or found.get("sha256")


def finished(path: Path, spec: Mapping[str, Any], model: str, *data: str) -> bool:
    """Whether a record is there, of this spec, and of the weights and rows that were fetched last.

    Its `data_sha256` is a hash, or those of several datasets by their names.
    """
    try:
        record = read_json(path)
        weights, rows = content(paths.model(model)), {name: content(paths.data(name)) for name in data}
    except UserError:  # Snakemake would overlook it in an input function; it shows when `content` is a param
        return False
    return not any(departures(record, spec, weights, rows))


def departures(
    record: Mapping[str, Any], spec: Mapping[str, Any] | None, weights: str | None, rows: Mapping[str, str | None]
) -> Iterator[str]:
    """Say in what a record is not of this spec, these weights and these rows: hashes, and hashes by dataset."""
    if record.get("spec") != spec:  # mostly equal, and then as fast as it can be
        yield from differing(spec, record.get("spec"))
    if record.get("base", {}).get("fingerprint") != weights:
        yield "made from other weights"
    if rows and record.get("data_sha256") not in (rows, *rows.values()):
        yield "made from other rows"


class Fetched:
    """What the fetched models and data are now, to compare with what a record was made from."""

    def __init__(self, results: Path):
        self.results = results
        self.read = functools.cache(read_json)

    def compare(
        self, path: Path, record: Mapping[str, Any], model: str, data: str | None = None, **others: str
    ) -> None:
        """Raise UserError when the record at `path` was made from other weights or other rows.

        data: the dataset whose hash the record holds as data_sha256. others: the same by the record's key.
        """
        weights = self.read(paths.model(model, self.results))["fingerprint"]
        pairs = [("weights", model, weights, record["base"]["fingerprint"])]
        for key, name in {**({"data_sha256": data} if data else {}), **others}.items():
            pairs.append(("rows", name, self.read(paths.data(name, self.results))["sha256"], record[key]))
        for kind, name, now, then in pairs:
            if now != then:
                raise UserError(f"{path}: made from other {kind} of {name} ({then[:12]}, now {now[:12]}). Delete it.")

    def compare_trained(self, path: Path, record: Mapping[str, Any], train: Path) -> None:
        """Raise UserError when the record at `path` was made from other trained weights than those of `train`."""
        if record["trained_sha256"] != self.read(train)["trained_sha256"]:
            raise UserError(f"{path}: made from other trained weights than those of {train}. Delete it and run again.")
