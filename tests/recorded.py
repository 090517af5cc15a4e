"""The records of a sweep's trainings and scores, made by hand: every number in them is invented."""

import json

import numpy as np

from pissa_repro.runtime import paths
from pissa_repro.runtime.record import write_json

ITEMS, STEPS = 40, 24
BASE = {"name": "base", "commit": None, "fingerprint": "f" * 64}
MACHINE = {"platform": "p", "processor": "p", "cores": 2, "memory_gib": 8}
ORIGIN = {
    "seconds": 30.0, "finished": "2026-01-01T00:00:00Z", "memory_bytes": 2**30, "gpu_memory_bytes": None,
    "versions": {}, "git": {"commit": "c0ffee", "dirty": False}, "hardware": MACHINE,
}  # fmt: skip


def loss_of(cell) -> float:
    """An invented final loss: less at a larger rank, and another for each method, quantization, rate and seed."""
    method = 0.01 * (len(cell.method) % 7) + 0.02 * (cell.quant != "none")
    return 1.0 - 0.05 * np.log2(cell.rank or 256) + method + cell.seed / 500 + 20 * (cell.learning_rate - 3e-3)


def right(cell, task: str) -> int:
    """How many of the items a cell has right."""
    return int(ITEMS * (1.2 - loss_of(cell)) * 0.7) + len(task) % 2


def record(sweep, results, skip=()):
    """Write the records of every cell but those of `skip`, and of what was fetched."""
    for model in {cell.model for cell in sweep.cells.values()}:
        write_json(paths.model(model, results), {"fingerprint": BASE["fingerprint"]})
    for name in sweep.config["datasets"]:
        write_json(paths.data(name, results), {"sha256": name})
    for name, cell in sweep.starts.items():
        if cell.quant != "none":
            spec = sweep.quant_error_spec(cell)
            write_json(paths.start_error(name, results), {"spec": spec, "base": BASE, "reduction": {"avg": 12.5}})
    for name, cell in sweep.cells.items():
        if name not in skip:
            _train(sweep, cell, results)
            for task in sweep.config["sweep"]["tasks"]:
                _score(sweep, cell, task, results)


def _train(sweep, cell, results):
    home = paths.cell(cell.name, results)
    facts = {
        "spec": sweep.train_spec(cell), "base": BASE, "data_sha256": cell.data, "final_loss": loss_of(cell),
        "trainable_parameters": 1000 * (cell.rank or 999), "steps": STEPS, "train_seconds": 24.0 + cell.seed,
        "batch": {"effective": 16}, "trained_sha256": {"a": cell.name}, "provenance": ORIGIN,
        "lengths": {"examples": 384, "tokens": 38400},
    }  # fmt: skip
    write_json(home.train, facts)
    steps = np.arange(1, STEPS + 1)
    lines = [f"{t},{loss_of(cell) + 2 / t},0.001,{(1 + len(cell.method) % 5) / t + 0.1}" for t in steps]
    home.steps.write_text("\n".join(["step,loss,learning_rate,grad_norm", *lines]) + "\n", encoding="utf-8")


def _score(sweep, cell, task, results):
    home, count = paths.cell(cell.name, results), right(cell, task)
    same = {"target": "1", "generated": ""}
    items = [{"id": n, "prompt": f"q{n}", **same, "paper": float(n < count)} for n in range(ITEMS)]
    share = count / ITEMS
    facts = {
        "spec": sweep.evaluate_spec(cell, task), "base": BASE, "trained_sha256": {"a": cell.name},
        "data_sha256": sweep.config["tasks"][task]["dataset"], "seen_in_training": 0, "provenance": ORIGIN,
        "metrics": {"paper": {"value": share, "stderr": (share * (1 - share) / ITEMS) ** 0.5, "n": ITEMS}},
        "generated": {"seconds": 5.0, "tokens": 400, "runs": [ORIGIN]},
    }  # fmt: skip
    write_json(home.score(task), facts)
    home.samples(task).write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
