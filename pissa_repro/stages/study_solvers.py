"""Time the solvers over ranks, and measure their errors: the study of the paper's Table 6.

python -m pissa_repro.stages.study_solvers --spec "$SPEC" --model MODEL.json --out solvers.csv --record solvers.json

One row per solver and rank. seconds: decomposing every target module, reading left out. error: the mean
over the elements of |B A - B* A*|, with B* A* of the exact decomposition, averaged over the modules.
The paper says "sum of absolute differences" without naming what was averaged (docs/paper_facts.md 1.6), so
only trends can be compared. excess: |W - B A| over the best rank-r remainder, less 1 (Frobenius).
"""

import time

from pissa_repro.runtime import gpus
from pissa_repro.runtime.errors import run_stage
from pissa_repro.runtime.provenance import provenance
from pissa_repro.runtime.record import sha256, write_csv, write_json
from pissa_repro.sources.fetched import base_of, stored_model
from pissa_repro.stages.options import stage_parser
from pissa_repro.studies.solvers import COLUMNS, time_solvers


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(
        __doc__, "spec", "model", "gpus", out="the CSV to write", record="where the numbers come from, to write"
    )
    args = parser.parse_args(argv)
    gpus.take(args.gpus)
    started = time.perf_counter()
    model = stored_model(args.model)
    rows = time_solvers(model["path"], args.spec)
    write_csv(args.out, COLUMNS, rows)
    record = {"spec": args.spec, "base": base_of(model), "csv_sha256": sha256(args.out)}
    write_json(args.record, {**record, "provenance": provenance(started)})


if __name__ == "__main__":
    run_stage(main)
