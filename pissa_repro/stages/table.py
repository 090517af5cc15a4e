"""Make one table of the sweep: a CSV with every column, and a compact Markdown version.

python -m pissa_repro.stages.table --config "$CONFIG" --scores results/scores.csv --results results \
    --table gsm8k --out results/gsm8k_table.csv --markdown results/gsm8k_table.md

The table holds the swept tasks that use the lm-eval task file of that name: one row for each model,
training data, task, method, quantization, rank and learning rate, over all seeds. Scores are in the
task file's unit (column unit), differences in the same (percentage points). A number that does not
exist is left empty.
"""

import argparse
import json
from pathlib import Path

from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.tables import captions
from pissa_repro.report.tables.sweep import build, write_csv
from pissa_repro.results.rows import at_best_rate, lines, read_scores
from pissa_repro.runtime.errors import run_stage
from pissa_repro.runtime.record import atomic


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, type=json.loads, help="the config as JSON")
    parser.add_argument("--scores", type=Path, default=Path("results/scores.csv"), help="the scores of all cells")
    parser.add_argument("--results", type=Path, default=Path("results"), help="the results folder")
    parser.add_argument("--table", required=True, help="an lm-eval task file of the sweep, without its ending")
    parser.add_argument("--out", required=True, type=Path, help="the CSV to write")
    parser.add_argument("--markdown", required=True, type=Path, help="the Markdown table to write")
    args = parser.parse_args(argv)
    sweep = Sweep(args.config)
    found = lines(sweep, args.table, read_scores(args.scores), args.results)
    rows, claims = build(sweep, found)
    text = captions.markdown(rows, claims, *build(sweep, at_best_rate(found), same_rate=False))
    write_csv(args.out, rows)
    with atomic(args.markdown) as file:
        file.write(text)
    print(text)


if __name__ == "__main__":
    run_stage(main)
