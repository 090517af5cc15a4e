"""Gather every record of the sweep into one table, results/scores.csv; one row a score.

python -m pissa_repro.collect --config "$CONFIG" --results results --out results/scores.csv

A record whose spec differs from the config's is refused: records may be in git without
Snakemake's memory of how they were made, and a folder may come from another config.
"""

import argparse
import functools
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pissa_repro.errors import UserError, run_stage
from pissa_repro.record import read_json, write_csv
from pissa_repro.sweep import Cell, Sweep

log = logging.getLogger(__name__)
COLUMNS = (
    "cell model data method display quant rank learning_rate seed task metric value stderr n final_loss "
    "trainable_parameters error_reduction train_seconds memory_bytes gpu_memory_bytes commit dirty record"
).split()


def checked(path: Path, spec: dict[str, Any]) -> dict[str, Any]:
    """The record at `path`. Raises UserError when it is missing or was made from another spec."""
    record = read_json(path)
    differences = list(differing(spec, record.get("spec")))
    if differences:
        raise UserError(
            f"{path} was made from another config: {'; '.join(differences[:3])}. "
            "Move the results folder away, or delete this record, and run again."
        )
    return record


def differing(wanted: Any, found: Any, place: str = "spec") -> Iterator[str]:
    """Say where two specs differ, as "spec.settings.epochs is 2, the config says 1"."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        for key in sorted(wanted.keys() | found.keys()):
            yield from differing(wanted.get(key), found.get(key), f"{place}.{key}")
    elif wanted != found:
        yield f"{place} is {found!r}, the config says {wanted!r}"


class Fetched:
    """What the fetched models and data are now, to compare with what a record was made from."""

    def __init__(self, results: Path):
        self.folder = results / "fetch"
        self.read = functools.cache(read_json)

    def compare(self, path: Path, record: dict[str, Any], model: str, data: str | None = None) -> None:
        """Raise UserError when the record at `path` was made from other weights or other rows."""
        weights = self.read(self.folder / "models" / f"{model}.json")["fingerprint"]
        pairs = [("weights", model, weights, record["base"]["fingerprint"])]
        if data:
            rows = self.read(self.folder / "data" / f"{data}.json")["sha256"]
            pairs.append(("rows", data, rows, record["data_sha256"]))
        for kind, name, now, then in pairs:
            if now != then:
                raise UserError(f"{path}: made from other {kind} of {name} ({then[:12]}, now {now[:12]}). Delete it.")


def rows(sweep: Sweep, results: Path) -> Iterator[dict[str, Any]]:
    """The rows of scores.csv, in the config's order. A number that does not exist is left out."""
    fetched = Fetched(results)
    reductions = {}
    for start, cell in sweep.starts.items():
        if cell.quant != "none":
            path = results / "quant_error" / f"{start}.json"
            record = checked(path, sweep.quant_error_spec(cell))
            fetched.compare(path, record, cell.model)
            reductions[start] = record["reduction"]["avg"]
    for cell in sweep.cells.values():
        folder = results / "cells" / cell.name
        train = checked(folder / "train.json", sweep.train_spec(cell))
        fetched.compare(folder / "train.json", train, cell.model, cell.data)
        for task in sweep.config["sweep"]["tasks"]:
            path = folder / "eval" / f"{task}.json"
            score = checked(path, sweep.evaluate_spec(cell, task))
            fetched.compare(path, score, cell.model, sweep.config["tasks"][task]["dataset"])
            for metric, facts in score["metrics"].items():
                yield {
                    **identity(sweep, cell),
                    **training(train),
                    **code(train["provenance"], *score["generated"]["runs"], score["provenance"]),
                    "task": task,
                    "metric": metric,
                    **facts,
                    "error_reduction": reductions.get(cell.start) if sweep.has_factors(cell) else None,
                    "record": str(path),
                }


def identity(sweep: Sweep, cell: Cell) -> dict[str, Any]:
    """The columns that say which cell a row is of."""
    keys = ("model", "data", "method", "quant", "rank", "learning_rate", "seed")
    return {"cell": cell.name, "display": sweep.display(cell), **{key: getattr(cell, key) for key in keys}}


def training(record: dict[str, Any]) -> dict[str, Any]:
    """The columns that come from the training record."""
    origin = record["provenance"]
    return {
        **{key: record[key] for key in ("final_loss", "trainable_parameters", "train_seconds")},
        **{key: origin[key] for key in ("memory_bytes", "gpu_memory_bytes")},
    }


def code(*origins: dict[str, Any]) -> dict[str, Any]:
    """The commits that trained, generated and scored (one, if they are the same), and whether any was dirty."""
    states = [origin["git"] for origin in origins]
    commits = dict.fromkeys(state["commit"] or "unknown" for state in states)
    return {"commit": " ".join(commits), "dirty": any(state["dirty"] is not False for state in states)}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, type=json.loads, help="the config as JSON")
    parser.add_argument("--results", type=Path, default=Path("results"), help="the results folder")
    parser.add_argument("--out", required=True, type=Path, help="the CSV to write")
    args = parser.parse_args(argv)
    found = list(rows(Sweep(args.config), args.results))
    write_csv(args.out, COLUMNS, found)
    log.info("%d scores of %d cells", len(found), len({row["cell"] for row in found}))


if __name__ == "__main__":
    run_stage(main)
