"""A results folder made by hand for the tests of the sweep's tables: every number here is invented."""

import copy
import csv
import json

import numpy as np

from pissa_repro.plan.sweep import Sweep
from pissa_repro.results.table import COLUMNS as SCORES
from pissa_repro.runtime import paths
from pissa_repro.runtime.record import canonical
from pissa_repro.stages import table as stage_table

ITEMS = 200
RIGHT = {  # share of right answers, invented: (method, quant) -> share
    ("full", "none"): 0.50, ("lora", "none"): 0.40, ("pissa", "none"): 0.60,
    ("lora", "nf4"): 0.40, ("loftq", "nf4"): 0.40, ("pissa", "nf4"): 0.20,
}  # fmt: skip
LOSS = {
    ("full", "none"): 0.5, ("lora", "none"): 0.6, ("pissa", "none"): 0.4,
    ("lora", "nf4"): 0.7, ("loftq", "nf4"): 0.7, ("pissa", "nf4"): 0.8,
}  # fmt: skip


def answers(cell, task=None):
    """Scores (items,) of a cell: item i is right if its difficulty is below the share; a little noise by seed."""
    seed = getattr(cell, "seed", 0)  # a base has none
    rng = np.random.default_rng([seed, *cell.method.encode()])
    share = RIGHT[cell.method, cell.quant] + 0.01 * seed
    return (np.arange(ITEMS) / ITEMS + rng.normal(0, 0.02, ITEMS) < share).astype(float)


def facts_of(sweep, cell):
    """The columns of scores.csv that the tasks of a cell share."""
    identity = {key: getattr(cell, key) for key in "model data method quant rank learning_rate seed".split()}
    return identity | {
        "cell": cell.name,
        "display": sweep.display(cell),
        "final_loss": LOSS[cell.method, cell.quant] + 0.001 * cell.seed,
        "trainable_parameters": 1000 * (cell.rank or 99),
        "error_reduction": {"lora": 0.0, "loftq": 5.0, "pissa": 15.5}[cell.method] if cell.quant == "nf4" else None,
        "train_seconds": 10 + cell.seed,
        "memory_bytes": 2**30 * (1 + cell.seed),
        "gpu_memory_bytes": None,
        "commit": "c0ffee",
        "dirty": False,
    }


def base_facts(sweep, one):
    """The same columns of a base as it is."""
    identity = {key: getattr(one, key) for key in "model data method quant".split()}
    return identity | {"cell": one.name, "display": sweep.display(one), "trainable_parameters": 0, "commit": "c0ffee"}


def graded(cell, task):
    """What the task file gives for a cell: {metric: (what each item's sample holds, the score)}."""
    paper = answers(cell, task)
    strict = paper * (np.arange(ITEMS) % 10 > 0)
    return {"paper": (paper.tolist(), paper.mean()), "strict": (strict.tolist(), strict.mean())}


def with_validation(config):
    """A copy of the config with a task gsm-mini-validation, on rows of its own."""
    config, name = copy.deepcopy(config), "gsm-mini-validation"
    config["datasets"][name] = config["datasets"]["gsm-mini-test"] | {"path": "embedded:validation"}
    config["tasks"][name] = config["tasks"]["gsm-mini"] | {"dataset": name}
    return config


def make(folder, config, only=lambda row: True, table="gsm8k", scored=None, **changes):
    """Write a results folder of a config: samples and scores.csv. Returns the stage's arguments."""
    config = copy.deepcopy(config)
    config["sweep"] |= changes
    sweep = Sweep(config)
    rows = []
    for cell in (*sweep.cells.values(), *sweep.bases.values()):
        facts = facts_of(sweep, cell) if cell.name in sweep.cells else base_facts(sweep, cell)
        for task in config["sweep"]["tasks"]:
            metrics = (scored or graded)(cell, task)
            path = paths.cell(cell.name, folder).samples(task)
            path.parent.mkdir(parents=True, exist_ok=True)
            samples = [
                {"id": i, "prompt": f"q{i}", "target": "1", "generated": ""} | dict(zip(metrics, values, strict=True))
                for i, values in enumerate(zip(*(values for values, _ in metrics.values()), strict=True))
            ]
            path.write_text("".join(json.dumps(sample) + "\n" for sample in samples), encoding="utf-8")
            for metric, (_, value) in metrics.items():
                score = {"task": task, "metric": metric, "value": value, "stderr": 0.03, "n": len(samples)}
                rows.append(facts | score | {"record": str(path)})
    with open(paths.scores(folder), "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, SCORES)
        writer.writeheader()
        writer.writerows(row for row in rows if only(row))
    return [
        "--config", canonical(sweep.config), "--results", str(folder), "--place", f"{table}_table",
        "--out", str(folder / "out.csv"), str(folder / "out.md"),
    ]  # fmt: skip


def run(folder, config, **changes):
    """The rows of the CSV as text, and the Markdown."""
    stage_table.main(make(folder, config, **changes))
    with open(folder / "out.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file)), (folder / "out.md").read_text(encoding="utf-8")
