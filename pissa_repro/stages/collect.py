"""Gather every record of the sweep into one table, results/scores.csv; one row per score.

python -m pissa_repro.stages.collect --config "$CONFIG" --results results --out results/scores.csv

A record whose spec differs from the config's is refused: records may be in git without
Snakemake's memory of how they were made, and a folder may come from another config.
"""

import logging

from pissa_repro.plan.sweep import Sweep
from pissa_repro.results.table import COLUMNS, rows
from pissa_repro.runtime.errors import run_stage
from pissa_repro.runtime.record import write_csv
from pissa_repro.stages.options import stage_parser

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__, "config", "results", out="the CSV to write")
    args = parser.parse_args(argv)
    scores = list(rows(Sweep(args.config), args.results))
    write_csv(args.out, COLUMNS, scores)
    log.info("%d scores of %d cells", len(scores), len({row["cell"] for row in scores}))


if __name__ == "__main__":
    run_stage(main)
