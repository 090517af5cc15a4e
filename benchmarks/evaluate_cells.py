"""What one more cell costs in benchmarks/evaluate.py: the generate stage's own command, for one cell and for many.

python benchmarks/evaluate_cells.py FOLDER --cells 6 --steps 40 --items 250

makes the cells: adapters of rank 16 on the embedded model, as config/config.yaml trains them; so shortly trained
that they are cheap, and so long that they answer in sentences. A process of its own, because its stages are
shown no GPU.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from common import ROOT

from pissa_repro.plan import config
from pissa_repro.plan.batches import Batches
from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime import paths
from pissa_repro.runtime.record import canonical
from pissa_repro.scoring import generations
from pissa_repro.stages import fetch

METHODS = ["pissa none", "lora none", "pissa nf4", "lora nf4", "loftq nf4", "pissa int8"]


def sweep(cells: int, steps: int, items: int) -> Sweep:
    """The first of METHODS at one point of a sweep, so that they share a batch; one for each back-end."""
    raw = config.load(ROOT / "config" / "config.yaml")
    raw["train"] |= {"steps": steps}
    raw["datasets"]["gsm-mini-train"]["rows"] = raw["train"]["batch_size"] * steps
    raw["datasets"]["gsm-mini-test"]["rows"] = items
    raw["tasks"] = {name: raw["tasks"]["gsm-mini"] | {"backend": name} for name in ("hf", "vllm")}
    found = [dict(zip(("method", "quant"), name.split(), strict=True)) for name in METHODS[:cells]]
    raw["sweep"] |= {"cells": found, "seeds": [0], "tasks": ["hf", "vllm"]}
    return Sweep(raw)


def make(folder: Path, found: Sweep) -> None:
    """Fetch, initialise and train, as the workflow does; results/ of the sweep is then in the folder."""
    from pissa_repro.stages import init, train

    results, model = folder / paths.RESULTS, folder / "model.json"
    fetch.main(["--spec", canonical(found.model_spec("mini-llama")), "--out", str(model)])
    for name in ("gsm-mini-train", "gsm-mini-test"):
        spec, record, rows = canonical(found.data_spec(name)), paths.data(name, results), paths.rows(name, results)
        fetch.main(["--spec", spec, "--out", str(record), "--rows", str(rows)])
    common = ["--model", str(model), "--scratch", str(folder / paths.SCRATCH), "--gpus", "0"]
    for name, cell in found.starts.items():
        init.main(["--spec", canonical(found.init_spec(cell)), "--out", str(paths.start(name, results)), *common])
    for name, cell in found.cells.items():
        home = paths.cell(name, results)
        train.main([
            "--spec", canonical(found.train_spec(cell)), "--data", str(paths.rows("gsm-mini-train", results)),
            *(["--init", str(paths.start(cell.start, results))] if found.has_factors(cell) else []),
            "--trained", str(home.trained), "--record", str(home.train),
            "--steps", str(home.steps), *common,
        ])  # fmt: skip


def generate(folder: Path, found: Sweep, backend: str, batch_size: int, gpus: int, threads: int) -> dict[str, Any]:
    """Run the generate stage for all cells of the sweep, nothing being there yet: {"seconds", "tokens"}."""
    results = folder / paths.RESULTS
    for old in paths.cells(results).glob("*/*/*/generated"):
        shutil.rmtree(old)
    batches = Batches(found)
    (name,) = (name for name, batch in batches.by_name.items() if batch.backend == backend)
    command = [
        sys.executable, "-m", "pissa_repro.stages.generate", "--spec", canonical(batches.spec(name)),
        "--model", str(folder / "model.json"), "--results", str(results),
        "--out", str(folder / "batch.json"), "--batch-size", str(batch_size), "--gpus", str(gpus),
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    started = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8")
    seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"generate with {backend} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    specs = {name: found.generate_spec(cell, backend) for name, cell in found.cells.items()}
    files = [generations.place(paths.cell(name, results), backend, spec) for name, spec in specs.items()]
    return {"seconds": seconds, "tokens": sum(generations.read(path).tokens for path in files)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    for name in ("cells", "steps", "items"):
        parser.add_argument(f"--{name}", type=int, required=True)
    args = parser.parse_args()
    make(args.folder, sweep(args.cells, args.steps, args.items))


if __name__ == "__main__":
    main()
