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


def differing(wanted: Any, given: Any, place: str = "spec") -> Iterator[str]:
    """Say where two specs differ, as "spec.settings.epochs is 2, the config says 1"."""
    if isinstance(wanted, dict) and isinstance(given, dict):
        for key in sorted(wanted.keys() | given.keys()):
            yield from differing(wanted.get(key), given.get(key), f"{place}.{key}")
    elif wanted != given:
        yield f"{place} is {given!r}, the config says {wanted!r}"


class Fetched:
    """What the fetched models and data are now, to compare with what a record was made from."""

    def __init__(self, results: Path):
        self.results = results
        self.read = functools.cache(read_json)

    def compare(self, path: Path, record: Mapping[str, Any], model: str, data: str | None = None) -> None:
        """Raise UserError when the record at `path` was made from other weights or other rows."""
        weights = self.read(paths.model(model, self.results))["fingerprint"]
        pairs = [("weights", model, weights, record["base"]["fingerprint"])]
        if data:
            rows = self.read(paths.data(data, self.results))["sha256"]
            pairs.append(("rows", data, rows, record["data_sha256"]))
        for kind, name, now, then in pairs:
            if now != then:
                raise UserError(f"{path}: made from other {kind} of {name} ({then[:12]}, now {now[:12]}). Delete it.")
