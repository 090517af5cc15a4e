"""Do two back-ends generate the same? One cell on one task, item by item.

python -m pissa_repro.stages.parity --first hf.jsonl --second vllm.jsonl --model MODEL.json --data DATA.jsonl \
    [--init DIR] --trained DIR --out parity.json

Reads what the generate stage has kept for both. Where two texts part, the merged model says how near
its two next tokens were: in float32 only near-ties may part, rounding decides those. The record holds
the share of equal texts, every item that parted with its gap, and whether all were near-ties.
"""

import time

from pissa_repro.runtime import gpus
from pissa_repro.runtime.errors import run_stage
from pissa_repro.runtime.provenance import provenance
from pissa_repro.runtime.record import write_json
from pissa_repro.scoring.parity import compare_kept
from pissa_repro.sources.fetched import stored_model
from pissa_repro.stages.options import stage_parser


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(
        __doc__, "model", "data", "init", "gpus",
        first="generations of one back-end", second="generations of the other",
        trained="folder of trained weights", out="the record to write",
    )  # fmt: skip
    args = parser.parse_args(argv)
    gpus.take(args.gpus)
    started = time.perf_counter()
    files = args.first, args.second
    record = compare_kept(files, stored_model(args.model), args.data, args.init, args.trained)
    write_json(args.out, {**record, "provenance": provenance(started)})


if __name__ == "__main__":
    run_stage(main)
