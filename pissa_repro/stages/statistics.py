"""Measure what starts know of data: a statistic of a model's target modules over rows, block by block.

python -m pissa_repro.stages.statistics --spec "$SPEC" --model MODEL.json --data DATA.jsonl --out DIR

Writes a file a module, and statistics.json: the tokens that each module saw, how the examples fit the window, seconds
and peak memory. What every block gives for all rows is kept beside DIR on the way; after a kill the same command goes
on at the block where it stopped.
"""

import logging
import time

from pissa_repro.runtime import gpus
from pissa_repro.runtime.errors import run_stage
from pissa_repro.runtime.lock import alone
from pissa_repro.runtime.provenance import provenance
from pissa_repro.runtime.record import refuse_existing, resumed_folder, write_json
from pissa_repro.sources.fetched import identities, stored_model
from pissa_repro.stages.options import stage_parser

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    args = stage_parser(__doc__, "spec", "model", "data", "gpus", out="folder to write").parse_args(argv)
    refuse_existing(args.out)
    with alone(args.out, "writing"):
        gpus.take(args.gpus)
        started = time.perf_counter()
        from pissa_repro.starts.statistics import RECORD, measure_model

        stored = stored_model(args.model)
        made = {"spec": args.spec, **identities(stored, args.data)}
        with resumed_folder(args.out, made) as (whole, notes):
            before = len(list(whole.glob("*.safetensors")))
            seen, lengths = measure_model(stored["path"], args.spec, args.data, whole, notes)
            facts = {"tokens": seen, "lengths": lengths.as_dict(), "resumed_modules": before}
            write_json(whole / RECORD, {**made, **facts, "provenance": provenance(started)})
    log.info("%s: %s of %d modules, %d of them before a stop", args.out, args.spec["kind"], len(seen), before)


if __name__ == "__main__":
    run_stage(main)
