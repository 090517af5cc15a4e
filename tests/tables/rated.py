"""A results folder of several rates made by hand, in which trainings may have diverged: every number is invented."""

import csv

import numpy as np
from tabled import ITEMS, make, with_validation

from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime import paths

TASKS = ["gsm-mini", "gsm-mini-validation"]
RATES = [1e-3, 3e-3, 1e-2]
CELLS = [{"method": name, "quant": "none"} for name in ("lora", "pissa", "full")]
RIGHT = {  # right answers of 200 at each rate, on the validation items and on the test items
    "lora": ([60, 80, 120], [70, 90, 110]),
    "pissa": ([90, 140, 100], [160, 120, 130]),  # on the test items another rate would be chosen
    "full": ([80, 90, 70], [80, 95, 75]),
}


def scored(cell, task):
    """Items are right below a count, which differs by seed; as tabled.graded gives it."""
    count = RIGHT[cell.method][TASKS.index(task) == 0][RATES.index(cell.learning_rate)]
    paper = (np.roll(np.arange(ITEMS), 7 * cell.seed) < count + cell.seed).astype(float)
    return {"paper": (paper.tolist(), paper.mean())}


def rated(folder, config, lost=(), tasks=TASKS, **changes):
    """Write the folder, and return the sweep and the stage's arguments. lost: (method, rate, seed) that diverged."""
    config = with_validation(config)
    swept = {
        "cells": CELLS,
        "learning_rates": RATES,
        "seeds": [0, 1],
        "tasks": list(tasks),
        "common_rate": 3e-3,
    } | changes
    swept = {key: value for key, value in swept.items() if value is not None}
    arguments = make(folder, config, scored=scored, **swept)
    path = paths.scores(folder)
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if (row["method"], float(row["learning_rate"]), int(row["seed"])) in lost:
            row |= {"value": "", "stderr": "", "n": "", "final_loss": "", "diverged": "3"}
            paths.cell(row["cell"], folder).samples(row["task"]).write_text("", encoding="utf-8")
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return Sweep({**config, "sweep": {**config["sweep"], **swept}}), arguments
