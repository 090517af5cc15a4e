"""A sweep whose errors are weighed by data, run by its stages in this process as the workflow runs them."""

from pathlib import Path

from helpers import RATE

from pissa_repro import methods
from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime import paths
from pissa_repro.runtime.record import canonical, read_json
from pissa_repro.stages import fetch, quant_error, statistics, train
from pissa_repro.stages import init as stage_init

LORA = ["q_proj", "down_proj"]


def config(model: Path, rows: Path, cells: list[str], data: dict | None, targets=tuple(LORA), **changes) -> dict:
    """Methods on nf4 at rank 4, trained for two steps; data: as studies.data."""
    fields = {"prompt": "prompt", "response": "response"}
    train_ = {"epochs": 1, "steps": 2, "batch_size": 4, "max_length": 256, "dtype": "float32"}
    studies = {"trained": True} | ({"data": data} if data else {})
    seen = [name for name in cells if methods.load(name).STATISTICS]
    return {
        "models": {"tiny": {"path": str(model)}},
        "datasets": {"rows": {"path": str(rows), "fields": fields, "rows": 12}},
        "methods": {name: {"init": name, "statistics": {"rows": 8}} for name in seen},
        "train": train_ | {"target_modules": list(targets)},
        "tasks": {"task": {"task": "gsm8k", "dataset": "rows", "max_new_tokens": 8}},
        "sweep": {
            "models": ["tiny"], "datasets": ["rows"], "cells": [{"method": name, "quant": "nf4"} for name in cells],
            "ranks": [4], "learning_rates": [RATE], "seeds": [0], "tasks": ["task"],
        },
        "studies": studies,
    } | changes  # fmt: skip


class Weighed:
    """The records of a sweep, below `results`."""

    def __init__(self, sweep: Sweep, results: Path):
        self.sweep, self.results = sweep, results
        self.model = paths.model("tiny", results)
        fetch.main(["--spec", canonical(sweep.model_spec("tiny")), "--out", str(self.model)])
        out = str(paths.data("rows", results))
        fetch.main(["--spec", canonical(sweep.data_spec("rows")), "--out", out, "--rows", str(self.rows)])
        for name, one in sweep.statistic_jobs.items():
            self.run(statistics, one.spec, "--data", self.rows, "--out", paths.statistics(name, results))

    @property
    def rows(self) -> Path:
        return paths.rows("rows", self.results)

    def run(self, stage, spec, *argv) -> None:
        stage.main(["--spec", canonical(spec), "--model", str(self.model), *map(str, argv)])

    def start(self, cell) -> Path:
        """Make the cell's initial factors, once."""
        out = paths.start(cell.start, self.results)
        if not out.exists():
            known = [paths.statistics(name, self.results) for name in self.sweep.known(cell)]
            more = ("--scratch", self.results / "spectrum", "--statistics", *known)
            self.run(stage_init, self.sweep.init_spec(cell), "--out", out, *more)
        return out

    def error(self, cell) -> dict:
        """The record of the error of a cell's start."""
        weighing, out = self.sweep.weighing(cell), paths.start_error(cell.start, self.results)
        by = ("--statistics", paths.statistics(weighing.name, self.results), "--data", self.rows) if weighing else ()
        self.run(quant_error, self.sweep.quant_error_spec(cell), "--factors", self.start(cell), "--out", out, *by)
        return read_json(out)

    def train(self, cell) -> None:
        home = paths.cell(cell.name, self.results)
        more = ("--scratch", self.results / "scratch", "--trained", home.trained, "--record", home.train)
        start = ("--init", self.start(cell), "--data", self.rows, "--steps", home.steps)
        self.run(train, self.sweep.train_spec(cell), *start, *more)
