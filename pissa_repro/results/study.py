"""A model under study: its names, and its records, each checked against the config and the weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas

from pissa_repro.plan import studies
from pissa_repro.plan.sweep import Sweep
from pissa_repro.results.curves import read_table
from pissa_repro.results.records import Fetched, checked
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import sha256


@dataclass(frozen=True)
class Study:
    """What an exhibit is made from: the sweep, a model of its studies, and the folder of records."""

    sweep: Sweep
    model: str
    results: Path

    @property
    def paper(self) -> str | None:
        """The paper's name of the model; None for a model that it has not."""
        return self.sweep.config["models"][self.model].get("paper")

    @property
    def display(self) -> str:
        """The model's name in tables."""
        return self.sweep.config["models"][self.model].get("display", self.model)

    def place(self, name: str) -> Path:
        """Where a file of the studies of this model is."""
        return paths.study(self.model, name, self.results)

    def record(self, name: str, spec: Mapping[str, Any], **rows: str) -> dict[str, Any]:
        """A record of the studies. Raises UserError when it was made from another config, other weights or rows.

        rows: datasets by the key under which the record holds their hash.
        """
        path = self.place(f"{name}.json")
        record: dict[str, Any] = checked(path, spec)
        Fetched(self.results).compare(path, record, self.model, **rows)
        return record

    def rows(self, name: str, spec: Mapping[str, Any], columns: tuple[str, ...]) -> pandas.DataFrame:
        """The CSV beside a record, which is checked as in `record`."""
        path = self.place(f"{name}.csv")
        record, table = self.record(name, spec), read_table(path, columns)
        if record["csv_sha256"] != sha256(path):
            raise UserError(f"{path}: is not the file that {name}.json tells of. Delete both and run again.")
        return table

    def errors(self, grid: str) -> pandas.DataFrame:
        """The errors of a grid, one row per module and point."""
        columns = ("module", "type", "method", "quant", "rank", "alternations", "nuclear", "nuclear_plain", "reduction")
        return self.rows(f"errors_{grid}", studies.errors_spec(self.sweep, self.model, grid), columns)


def studied(sweep: Sweep, results: Path) -> list[Study]:
    """The models of the studies, in the config's order."""
    return [Study(sweep, model, results) for model in sweep.config["studies"]["models"]]
