"""Write one HTML page of a sweep: filter, sort, plot.

    pissa report --out report.html
    pissa report --configfile config/rates.yaml --results results --out rates.html

The page needs no network and no server: open the file. It shows each setting over its seeds beside its reference,
with intervals and verdicts; the runs behind it with their records and logs; any two columns as a chart; and the loss
over the steps. What is missing, failed or diverged is counted; of half a sweep it shows what is there. The numbers are
those of scores.csv and of the tables.
"""

from pathlib import Path
from typing import Annotated

import typer

from pissa_repro.cli._configs import Files, swept


def report(
    out: Annotated[Path, typer.Option(help="The HTML file to write.")],
    configfile: Files = None,
    results: Annotated[Path, typer.Option(help="The folder of records.")] = Path("results"),
    again: Annotated[bool, typer.Option("--again", help="Replace an older page.")] = False,
) -> None:
    """The page, and a line on what it holds."""
    from pissa_repro.report.page.write import write

    told = write(swept(configfile), results, out, [str(path) for path in configfile or ()], again)
    states = ", ".join(f"{count} {state}" for state, count in told["states"].items())
    print(f"{out}: {len(told['settings'])} settings, runs: {states}; {out.stat().st_size / 1e6:.1f} MB.")
