"""Take results folders of several machines into one, checked.

    pissa join first/results second/results --out joined/results

RESULTS are two folders or more, each of a sweep of its own: other seeds, methods or models of one config. Their weights
and rows must have the same hashes; a cell, start or score that several hold must be equal in all, else the folders are
refused and both are named. Other commits and versions are told. Weights are hard links where the disk allows it, the
rest is copied; nothing in the given folders changes. Files get the times of one workflow in its order, so that
Snakemake runs nothing of it again, and makes the tables:

    snakemake -s CHECKOUT/Snakefile -d joined results/gsm8k_table.csv --configfile ALL.yaml

ALL.yaml sweeps what all have swept; a record of another config is refused there. Checkpoints, admissions and tables
are left out. Needs no GPU and no network.
"""

from pathlib import Path
from typing import Annotated

import typer


def join(
    results: Annotated[list[Path], typer.Argument(help="Results folders, two or more.")],
    out: Annotated[Path, typer.Option(help="The folder to write; a new one.")],
    first_start: Annotated[
        bool, typer.Option("--first-start", help="Where starts differ in their bits, keep the first one's.")
    ] = False,
) -> None:
    """A line for each folder, and warnings."""
    from pissa_repro.results.join import join as run  # what it imports is not needed for --help

    print("\n".join([*run(results, out, first_start), f"Written: {out}"]))
