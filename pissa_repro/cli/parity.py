"""Show whether two back-ends have generated the same.

    pissa parity results/parity/*/*/*/*.json

A line for each record that `snakemake parity` has written; exit code 1 where more than near-ties part.
"""

from pathlib import Path
from typing import Annotated

import typer


def parity(records: Annotated[list[Path], typer.Argument(help="Records: results/parity/<cell>/<a>~<b>.json.")]) -> None:
    """A line for each record."""
    from pissa_repro.scoring.parity import show  # with torch, which --help does not need

    show(records)
