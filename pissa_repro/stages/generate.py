"""Generate the answers of many trained cells of one model, in one process and one start of the engine.

python -m pissa_repro.stages.generate --spec "$BATCH" --model MODEL.json --out batch.json

The batch names cells and tasks; every cell is generated on every task. What is finished, item by
item, is kept in results/cells/<cell>/generated and never made again: a run that was killed goes on
there, at the batch of prompts where it stopped. Nothing is scored here (stages/evaluate.py), so that a new
answer rule needs no model.
"""

import argparse
import json
from pathlib import Path

from pissa_repro.runtime import gpus
from pissa_repro.runtime.errors import run_stage
from pissa_repro.runtime.paths import RESULTS
from pissa_repro.runtime.provenance import provenance
from pissa_repro.runtime.record import write_json
from pissa_repro.scoring import engines
from pissa_repro.scoring.generator import Generator, jobs
from pissa_repro.sources.fetched import stored_model
from pissa_repro.stages.options import add_generation


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", required=True, type=json.loads, help="canonical JSON of a batch of cells and tasks")
    parser.add_argument("--model", required=True, help="record of the fetched base model")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the results folder")
    parser.add_argument("--out", required=True, type=Path, help="the record of the batch to write")
    add_generation(parser)
    args = parser.parse_args(argv)
    engines.check(args.spec["backend"], args.gpus, args.tensor_parallel)
    gpus.take(args.gpus)
    generator = Generator(stored_model(args.model), args.batch_size, args.tensor_parallel)
    work = list(jobs(args.spec, args.results))
    record = {"jobs": [job.name for job in work], "refused": generator.run(work)}
    write_json(args.out, {**record, "provenance": provenance(generator.started)})


if __name__ == "__main__":
    run_stage(main)
