"""Gather every record of the sweep into one table, results/scores.csv; one row a score.

python -m pissa_repro.stages.collect --config "$CONFIG" --results results --out results/scores.csv

A record whose spec differs from the config's is refused: records may be in git without
Snakemake's memory of how they were made, and a folder may come from another config.
"""

import argparse
import json
import logging
from pathlib import Path

from pissa_repro.plan.sweep import Sweep
from pissa_repro.results.table import COLUMNS, rows
from pissa_repro.runtime.errors import run_stage
from pissa_repro.runtime.paths import RESULTS
from pissa_repro.runtime.record import write_csv

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, type=json.loads, help="the config as JSON")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the results folder")
    parser.add_argument("--out", required=True, type=Path, help="the CSV to write")
    args = parser.parse_args(argv)
    found = list(rows(Sweep(args.config), args.results))
    write_csv(args.out, COLUMNS, found)
    log.info("%d scores of %d cells", len(found), len({row["cell"] for row in found}))


if __name__ == "__main__":
    run_stage(main)
