"""Gradients of A and B at the start, and the first updates, over seeds of the start: Table 11 and Figure 18.

python -m pissa_repro.stages.study_gradients --spec "$SPEC" --model MODEL.json --data DATA.jsonl --out gradients.json

For LoRA and PiSSA: the gradients on one fixed batch as directions in two dimensions, the losses of the first 50 steps,
and how far A and B have come, after each of the first five updates, of their way to the 50th.
"""

import time

from pissa_repro.runtime import gpus
from pissa_repro.runtime.errors import run_stage
from pissa_repro.runtime.provenance import provenance
from pissa_repro.runtime.record import write_json
from pissa_repro.sources.fetched import identities, stored_model
from pissa_repro.stages.options import stage_parser
from pissa_repro.starts.kept import Kept


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__, "spec", "model", "data", "scratch", "gpus", out="the record to write")
    parser.add_argument("--micro-batch-size", type=int, default=4, help="sequences in one forward pass (default 4)")
    args = parser.parse_args(argv)
    gpus.take(args.gpus)
    started = time.perf_counter()
    from pissa_repro.studies.gradients import Given, measure_gradients

    stored = stored_model(args.model)
    given = Given(stored, args.data, identities(stored, args.data), args.micro_batch_size)
    found = measure_gradients(given, args.spec, Kept(args.scratch, stored["fingerprint"]))
    record = {"spec": args.spec, **given.identity, "methods": found, "provenance": provenance(started)}
    write_json(args.out, record)


if __name__ == "__main__":
    run_stage(main)
