"""Measure quantization errors over a grid of methods, quantizations, ranks and alternations.

python -m pissa_repro.stages.study_errors --spec "$SPEC" --model MODEL.json --out errors.csv --record errors.json

One row per module and point. Each weight is read and decomposed once for the whole grid. The finished
modules are kept beside the output, so that a measurement that was stopped goes on where it was.
"""

import time

from pissa_repro.runtime import gpus
from pissa_repro.runtime.errors import run_stage
from pissa_repro.runtime.lock import alone
from pissa_repro.runtime.provenance import provenance
from pissa_repro.runtime.record import sha256, write_csv, write_json
from pissa_repro.sources.fetched import base_of, stored_model
from pissa_repro.stages.options import stage_parser
from pissa_repro.starts.kept import Kept
from pissa_repro.studies.errors import COLUMNS, measure_grid


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(
        __doc__, "spec", "model", "scratch", "gpus",
        out="the CSV to write", record="where the numbers come from, to write",
    )  # fmt: skip
    args = parser.parse_args(argv)
    unfinished = args.scratch / f"{args.model.replace('/', '-')}-{args.out.name}.jsonl"
    with alone(unfinished, "measuring into"):
        gpus.take(args.gpus)
        started = time.perf_counter()
        model = stored_model(args.model)
        kept = Kept(args.scratch, model["fingerprint"])
        rows = measure_grid(model["path"], args.spec, kept, unfinished)
        write_csv(args.out, COLUMNS, rows)
        record = {"spec": args.spec, "base": base_of(model), "csv_sha256": sha256(args.out)}
        write_json(args.record, {**record, "provenance": provenance(started)})
        unfinished.unlink(missing_ok=True)


if __name__ == "__main__":
    run_stage(main)
