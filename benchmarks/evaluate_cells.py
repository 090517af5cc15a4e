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

    results, model = folder / "results", folder / "model.json"
    fetch.main(["--spec", canonical(found.model_spec("mini-llama")), "--out", str(model)])
    for name in ("gsm-mini-train", "gsm-mini-test"):
        path = results / "fetch" / "data" / name
        spec = canonical(found.data_spec(name))
        fetch.main(["--spec", spec, "--out", f"{path}.json", "--rows", f"{path}.jsonl"])
    common = ["--model", str(model), "--scratch", str(folder / "scratch"), "--gpus", "0"]
    for name, cell in found.starts.items():
        init.main(["--spec", canonical(found.init_spec(cell)), "--out", str(results / "init" / name), *common])
    for name, cell in found.cells.items():
        home = results / "cells" / name
        train.main([
            "--spec", canonical(found.train_spec(cell)), "--data", str(results / "fetch/data/gsm-mini-train.jsonl"),
            *(["--init", str(results / "init" / cell.start)] if found.has_factors(cell) else []),
            "--trained", str(home / "trained"), "--record", str(home / "train.json"),
            "--steps", str(home / "train_steps.csv"), *common,
        ])  # fmt: skip


def generate(folder: Path, found: Sweep, backend: str, batch_size: int, gpus: int, threads: int) -> dict[str, Any]:
    """Run the generate stage for all cells of the sweep, nothing being there yet: {"seconds", "tokens"}."""
    for old in (folder / "results" / "cells").glob("*/*/*/generated"):
        shutil.rmtree(old)
    batches = Batches(found)
    (name,) = (name for name, batch in batches.by_name.items() if batch.backend == backend)
    command = [
        sys.executable, "-m", "pissa_repro.stages.generate", "--spec", canonical(batches.spec(name)),
        "--model", str(folder / "model.json"), "--results", str(folder / "results"),
        "--out", str(folder / "batch.json"), "--batch-size", str(batch_size), "--gpus", str(gpus),
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    started = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"generate with {backend} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    cells, specs = (
        folder / "results" / "cells",
        {c: found.generate_spec(cell, backend) for c, cell in found.cells.items()},
    )
    files = [generations.place(cells / name, backend, spec) for name, spec in specs.items()]
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
