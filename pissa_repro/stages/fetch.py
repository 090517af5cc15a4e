"""Bring a model or a dataset to this machine and say exactly which one it is.

python -m pissa_repro.stages.fetch --spec '{"stage":"fetch","version":1,"model":{"path":"embedded"}}' \
    --out model.json
python -m pissa_repro.stages.fetch --spec '{..."dataset":{"path":"embedded:test",...}}' \
    --out data.json --rows data.jsonl

A model's record holds the folder, the resolved commit and a fingerprint of the weights. A
dataset's rows are written as lines of {role: value} (sources/roles.py), the record holds their count and hash.
"""

import logging
import time
from pathlib import Path
from typing import Any

from pissa_repro.runtime.errors import run_stage
from pissa_repro.runtime.provenance import provenance
from pissa_repro.runtime.record import sha256, write_json, write_lines
from pissa_repro.sources.fetched import fetch_dataset, fetch_model
from pissa_repro.stages.options import stage_parser

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__, "spec", out="the record to write")
    parser.add_argument("--rows", type=Path, help="the JSON lines to write (datasets)")
    args = parser.parse_args(argv)
    started = time.perf_counter()
    result: dict[str, Any]
    if "model" in args.spec:
        result = {**fetch_model(args.spec["model"])}
        log.info("model %s at %s, fingerprint %s", result["name"], result["path"], result["fingerprint"][:12])
    else:
        rows, commit = fetch_dataset(args.spec["dataset"])
        write_lines(args.rows, rows)
        result = {"rows": len(rows), "commit": commit, "sha256": sha256(args.rows)}
        log.info("%d rows", len(rows))
    write_json(args.out, {"spec": args.spec, **result, "provenance": provenance(started)})


if __name__ == "__main__":
    run_stage(main)
