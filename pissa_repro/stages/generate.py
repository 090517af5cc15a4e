"""Generate the answers of many trained cells of one model, in one process and one launch of the engine.

python -m pissa_repro.stages.generate --spec "$BATCH" --model MODEL.json --out batch.json

The batch names cells and tasks; every cell is generated on every task. What is finished, item by
item, is kept in results/cells/<cell>/generated and never made again: a run that was killed goes on
there, at the batch of prompts where it stopped. SIGUSR1, by which a batch system warns of the end of a job's time,
ends it after the batch of prompts at hand, and puts its Slurm job back into the queue. Nothing is scored here
(stages/evaluate.py), so that a new answer rule needs no model.
"""

import signal

from pissa_repro.runtime import gpus, walltime
from pissa_repro.runtime.errors import run_stage
from pissa_repro.runtime.provenance import provenance
from pissa_repro.runtime.record import sha256, write_json
from pissa_repro.scoring import engines
from pissa_repro.scoring.generator import Generator, jobs
from pissa_repro.sources.fetched import base_of, stored_model
from pissa_repro.stages.options import stage_parser


def main(argv: list[str] | None = None) -> None:
    names = ("spec", "model", "results", "batch-size", "tensor-parallel", "gpus")
    parser = stage_parser(__doc__, *names, out="the record of the batch to write")
    args = parser.parse_args(argv)
    engines.check(args.spec["backend"], args.gpus, args.tensor_parallel)
    with walltime.Stop().listening(signal.SIGUSR1) as stop:
        gpus.take(args.gpus)
        generator = Generator(stored_model(args.model), args.batch_size, args.tensor_parallel, stop)
        work = list(jobs(args.spec, args.results))
        made = {"spec": args.spec, "base": base_of(generator.stored), "jobs": [job.name for job in work]}
        rows = {path.stem: sha256(path) for path in {job.rows for job in work}}
        record = {**made, "data_sha256": rows, "refused": generator.run(work)}
    write_json(args.out, {**record, "provenance": provenance(generator.started)})


if __name__ == "__main__":
    run_stage(main)
