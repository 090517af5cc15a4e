"""Small hand-written records of a sweep, and its figures drawn from them."""

import copy

from pissa_repro import exhibits
from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.figures import style
from pissa_repro.runtime import paths

FIXTURE = {  # no model and no data are read: only names and display names matter here
    "models": {"a": {"path": "x", "display": "model A"}, "b": {"path": "y", "display": "model B"}},
    "datasets": {
        "train": {"path": "t", "fields": {"prompt": "q", "response": "a"}, "display": "bench (generated)"},
        "test": {"path": "t", "fields": {"prompt": "q", "response": "a"}, "display": "bench (generated)"},
    },
    "train": {"epochs": 1, "batch_size": 2, "max_length": 8, "dtype": "float32", "target_modules": ["q_proj"]},
    "tasks": {"bench": {"task": "gsm8k", "dataset": "test", "max_new_tokens": 4}},
    "sweep": {
        "models": ["a"],
        "datasets": ["train"],
        "cells": [
            {"method": "full", "quant": "none"},
            {"method": "lora", "quant": "none"},
            {"method": "lora", "quant": "nf4"},
        ],
        "ranks": [4],
        "learning_rates": [0.01],
        "seeds": [0, 1],
        "tasks": ["bench"],
    },
}


def made(tmp_path, steps=36, curve=lambda t: 5 / t, sections=None, **axes):
    """A sweep and its fixture records; each cell's values are the curve times 1 + its number / 10.

    sections: further ones of the config; axes: of the sweep.
    """
    config = copy.deepcopy(FIXTURE | (sections or {}))
    config["sweep"] |= axes
    sweep = Sweep(config)
    rows = ["cell,task,metric,value,stderr,n"]
    for number, cell in enumerate(sweep.cells.values()):
        path = paths.cell(cell.name, tmp_path).steps
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"{t},{curve(t) * (1 + number / 10)},0.01,{curve(t) * (2 + number / 10)}" for t in range(1, steps + 1)]
        path.write_text("\n".join(["step,loss,learning_rate,grad_norm", *lines]) + "\n", encoding="utf-8")
        rows += [
            f"{cell.name},bench,paper,{0.2 + number / 10},{0.01 + number / 1000},300",
            f"{cell.name},bench,other,,,300",
        ]
    (paths.scores(tmp_path)).write_text("\n".join(rows) + "\n", encoding="utf-8")
    return sweep


def drawn(name, sweep, tmp_path):
    with style.context():
        figure = exhibits.PLUGINS.load(name).make(sweep, tmp_path)
        figure.draw_without_rendering()
    return figure
