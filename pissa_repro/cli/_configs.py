"""The option --configfile, as of snakemake, and the sweep that it gives."""

from pathlib import Path
from typing import Annotated

import typer

from pissa_repro.plan import config
from pissa_repro.plan.checked import checked
from pissa_repro.plan.sweep import Sweep

Files = Annotated[
    list[Path] | None,
    typer.Option("--configfile", help="A config laid over config/config.yaml; may be given several times."),
]


def swept(files: list[Path] | None) -> Sweep:
    """The checked sweep of the default config with these laid over it, the last one wins."""
    return checked(config.load(config.ROOT / "config" / "config.yaml", *(files or ())))[0]
