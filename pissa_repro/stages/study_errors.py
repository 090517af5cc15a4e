"""Measure quantization errors over a grid of methods, quantizations, ranks and alternations.

python -m pissa_repro.stages.study_errors --spec "$SPEC" --model MODEL.json --out errors.csv --record errors.json

One row a module and point. Each weight is read and decomposed once for the whole grid. The finished
modules are kept beside the output, so that a measurement that was stopped goes on where it was.
"""

import argparse
import json
import time
from pathlib import Path

from pissa_repro.runtime import gpus
from pissa_repro.runtime.errors import run_stage
from pissa_repro.runtime.provenance import provenance
from pissa_repro.runtime.record import write_csv, write_json
from pissa_repro.sources.fetched import base_of, sha256, stored_model
from pissa_repro.stages.options import add_gpus
from pissa_repro.starts.kept import FOLDER, Kept
from pissa_repro.studies.errors import COLUMNS, measure


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", required=True, type=json.loads, help="canonical JSON of the errors stage")
    parser.add_argument("--model", required=True, help="record of the fetched model")
    parser.add_argument("--out", required=True, type=Path, help="the CSV to write")
    parser.add_argument("--record", required=True, type=Path, help="where the numbers come from, to write")
    parser.add_argument("--scratch", type=Path, default=FOLDER, help="where decompositions are kept")
    add_gpus(parser)
    args = parser.parse_args(argv)
    gpus.take(args.gpus)
    started = time.perf_counter()
    model = stored_model(args.model)
    unfinished = args.scratch / f"{args.model.replace('/', '-')}-{args.out.name}.jsonl"
    kept = Kept(args.scratch, model["fingerprint"])
    rows = measure(model["path"], args.spec, kept, unfinished)
    write_csv(args.out, COLUMNS, rows)
    record = {"spec": args.spec, "base": base_of(model), "csv_sha256": sha256(args.out)}
    write_json(args.record, {**record, "provenance": provenance(started)})
    unfinished.unlink(missing_ok=True)


if __name__ == "__main__":
    run_stage(main)
