"""Verdicts on invented results of the paper's grid."""

import copy

from pissa_repro.paper import verdict as paper_verdict
from pissa_repro.plan.sweep import Sweep

PAPER = ("config/config.yaml", "config/paper.yaml")


def cell_of(config, **changes):
    """The sweep and its first cell, with `changes` as the only values of the sweep's lists."""
    config = copy.deepcopy(config)
    config["sweep"] |= {key: [value] for key, value in changes.items()}
    sweep = Sweep(config)
    return sweep, next(iter(sweep.cells.values()))


def at(config, t):
    """The config with T alternations for every method that has them."""
    config = copy.deepcopy(config)
    for definition in config["methods"].values():
        if "alternations" in definition.get("options", {}):
            definition["options"]["alternations"] = t
    return config


def verdict(config, mean=53.22, stderr=1.4, n=1319, metric="paper", task="gsm8k", hashes=None, **changes):
    sweep, cell = cell_of(config, **changes)
    return paper_verdict.compare(sweep, cell, task, paper_verdict.Ours(mean, stderr, n, metric), hashes)
