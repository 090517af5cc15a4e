"""Make one table from its records: a CSV with every column, and the same as Markdown, which is printed too.

python -m pissa_repro.stages.table --config CONFIG_JSON --results results --place paper/table8 \
    --out results/paper/table8.csv results/paper/table8.md

A number that does not exist is left empty. Which tables there are: pissa_repro/exhibits/.
"""

from pissa_repro import exhibits
from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.tables.table import Table, save
from pissa_repro.runtime.errors import run_stage
from pissa_repro.stages.options_exhibit import exhibit_options


def main(argv: list[str] | None = None) -> None:
    args = exhibit_options(__doc__, "files to write: .csv or .md").parse_args(argv)
    output = exhibits.output(Sweep(args.config), "table", args.place)
    table = output.exhibit.make(output.sweep, args.results)
    assert isinstance(table, Table)  # an exhibit whose KIND is table
    for path in args.out:
        save(table, path)
    print(table.markdown)


if __name__ == "__main__":
    run_stage(main)
