"""Write one table of the studies, the published numbers beside: Tables 4, 6, 8 and 9 of the paper.

python -m pissa_repro.stages.study_table --config CONFIG_JSON --results results --model MODEL --table table8 \
    --out results/studies/MODEL/table8.csv --markdown results/studies/MODEL/table8.md

table8: error reduction per projection type over ranks and alternations; table4: its part with the most
alternations. table6: the solvers. table9: other quantizers. trained_as: the error of trained weights on
the base that they were trained on and on others. A table is one function (Study) -> Rows in TABLES.
"""

import argparse
import json
from pathlib import Path

import pandas

from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.tables.studies import HEADINGS, TABLES, markdown
from pissa_repro.results.study import Study
from pissa_repro.runtime.errors import run_stage, unknown
from pissa_repro.runtime.record import atomic


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, type=json.loads, help="the config as canonical JSON")
    parser.add_argument("--results", type=Path, default=Path("results"), help="the results folder")
    parser.add_argument("--model", required=True, help="a model of config.studies.models")
    parser.add_argument("--table", required=True, help=f"one of: {', '.join(TABLES)}")
    parser.add_argument("--out", required=True, type=Path, help="the CSV to write")
    parser.add_argument("--markdown", required=True, type=Path, help="the Markdown table to write")
    args = parser.parse_args(argv)
    if args.table not in TABLES:
        raise unknown("table", args.table, TABLES, "--table")
    study = Study(Sweep(args.config), args.model, args.results)
    rows = TABLES[args.table](study)
    heading = HEADINGS[args.table].format(turns=max(study.sweep.config["studies"]["alternations"]))
    with atomic(args.out) as file:
        pandas.DataFrame(rows).to_csv(file, index=False, float_format="%.6g", lineterminator="\n")
    text = markdown(f"{heading}: {study.display}", rows)
    with atomic(args.markdown) as file:
        file.write(text)
    print(text)


if __name__ == "__main__":
    run_stage(main)
