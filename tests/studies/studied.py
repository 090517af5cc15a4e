"""What the tests of the studies' figures share: a sweep, records that the stages made, and readers of both."""

import csv
from pathlib import Path

import pandas

from pissa_repro.exhibits import PLUGINS
from pissa_repro.plan import studies
from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.figures import style
from pissa_repro.results.study import Study, studied
from pissa_repro.runtime import paths
from pissa_repro.runtime.record import canonical, read_json, write_json
from pissa_repro.sources.fetched import sha256
from pissa_repro.stages import fetch, study_errors, study_spectra
from pissa_repro.starts.error import by_type

STUDIES = {
    "models": ["tiny"],
    "ranks": [2, 4],
    "rank": 2,
    "alternations": [1, 5],
    "many_alternations": [1, 3],
    "blocks": ["nf4-b32", "nf4", "nf4-dq"],
}
GRIDS = ("ranks", "alternations", "blocks")


def sweep_of(model: Path, **changes) -> Sweep:
    """A sweep over the model in this folder; only its studies matter here."""
    fields = {"prompt": "q", "response": "a"}
    return Sweep(
        {
            "models": {"tiny": {"path": str(model), "display": "tiny (embedded)"}},
            "datasets": {"data": {"path": "t", "fields": fields}},
            "train": {"epochs": 1, "batch_size": 2, "max_length": 8, "dtype": "float32", "target_modules": ["q_proj"]},
            "tasks": {"bench": {"task": "gsm8k", "dataset": "data", "max_new_tokens": 4}},
            "sweep": {
                "models": ["tiny"], "datasets": ["data"], "cells": [{"method": "pissa", "quant": "nf4"}],
                "ranks": [2], "learning_rates": [0.1], "seeds": [0], "tasks": ["bench"],
            },
            "studies": STUDIES | changes,
        }
    )  # fmt: skip


def measured(sweep: Sweep, results: Path) -> Study:
    """Run the stages as the workflow does, in this process; the first model's study is returned."""
    for name in sweep.config["studies"]["models"]:
        model = paths.model(name, results)
        fetch.main(["--spec", canonical(sweep.model_spec(name)), "--out", str(model)])
        same = ["--model", str(model), "--scratch", str(results / "scratch")]
        for grid in GRIDS:
            table, made = (str(paths.study(name, f"errors_{grid}.{kind}", results)) for kind in ("csv", "json"))
            spec = canonical(studies.errors_spec(sweep, name, grid))
            study_errors.main(["--spec", spec, *same, "--out", table, "--record", made])
        spec = canonical(studies.spectra_spec(sweep, name))
        study_spectra.main(["--spec", spec, *same, "--out", str(paths.study(name, "spectra.json", results))])
    return studied(sweep, results)[0]


def drawn(name: str, study: Study):
    with style.context():
        figure = PLUGINS.load(name).make(study.sweep, study.results)
        figure.draw_without_rendering()
    return figure


def caption(figure) -> str:
    return " ".join(figure.get_supxlabel().split())


def record(study: Study, name: str) -> Path:
    return paths.study(study.model, name, study.results)


def rewrite(path: Path, table: pandas.DataFrame, **changes) -> None:
    """Another table in place of one, with a record that says so."""
    table.to_csv(path, index=False)
    made = read_json(path.with_suffix(".json"))
    write_json(path.with_suffix(".json"), made | {"csv_sha256": sha256(path), **changes})


def rows(study: Study, grid: str, **point) -> list[dict[str, str]]:
    """The rows of a grid where each column has that value."""
    with open(record(study, f"errors_{grid}.csv"), newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    return [row for row in found if all(row[key] == str(value) for key, value in point.items())]


def mean(study: Study, grid: str, **point) -> float:
    """The average by the rule of quant_error, from the CSV."""
    return by_type({r["module"]: {"reduction": float(r["reduction"])} for r in rows(study, grid, **point)})["avg"]


def lines(axes) -> dict:
    return {line.get_label(): line for line in axes.lines}
