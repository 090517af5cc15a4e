"""Make a method's initial factors from a model's weights.

In the workflow:
    python -m pissa_repro.stages.init --spec "$SPEC" --model results/fetch/models/mini-llama.json --out DIR
By hand, on a folder or a hub id; several ranks read and decompose each weight once:
    python -m pissa_repro.stages.init --model DIR --method pissa --quant nf4 --rank 16 64 128 --out OUT

Reads the target weights one by one from the safetensors; the model is never built. Writes a PEFT
adapter folder (one a rank, by hand: OUT/r16, ...) and init.json: start-up equality, norms of A, B and
of what was taken out of W, and the accuracy of the decomposition.
"""

import argparse
import json
import time
from pathlib import Path

from pissa_repro.runtime import gpus
from pissa_repro.runtime.errors import run_stage
from pissa_repro.sources.fetched import base_of, stored_model
from pissa_repro.stages.options import add_by_hand, add_gpus
from pissa_repro.starts import byhand, estimate
from pissa_repro.starts.kept import Kept
from pissa_repro.starts.make import start_model, write


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--spec", type=json.loads, help="canonical JSON of the init stage; replaces the options by hand"
    )
    parser.add_argument("--model", required=True, help="record of a fetched model; by hand, a folder or a hub id")
    parser.add_argument("--out", required=True, type=Path, help="folder to write")
    add_by_hand(parser)
    add_gpus(parser)
    args = parser.parse_args(argv)
    gpus.take(args.gpus)
    started = time.perf_counter()
    if args.spec:
        model, specs, folders = stored_model(args.model), [args.spec], [args.out]
    else:
        model = byhand.model(args.model, args.revision)
        specs = byhand.init_specs(args, model["path"])
        folders = [args.out / f"r{spec['rank']}" for spec in specs] if len(specs) > 1 else [args.out]
        estimate.announce(estimate.init_cost(model["path"], specs))
    kept = Kept(args.scratch, model["fingerprint"])
    for spec, folder, made in zip(specs, folders, start_model(model["path"], specs, kept), strict=True):
        write(folder, spec, base_of(model), *made, started)


if __name__ == "__main__":
    run_stage(main)
