"""Arguments that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

from pissa_repro import methods, quantizers
from pissa_repro.runtime import gpus, paths

Model = Annotated[str, typer.Argument(help="A folder, a hub id (owner/name), `embedded`, or a fetched model's record.")]
Revision = Annotated[str, typer.Option(help="Commit, tag or branch of a hub id.")]
Method = Annotated[str, typer.Option(help=f"One of: {', '.join(methods.names())}.")]
Quant = Annotated[str, typer.Option(help=f"One of: {', '.join(quantizers.names())}.")]
Ranks = Annotated[list[int] | None, typer.Option("--rank", help="One or several (default 16).")]
Alpha = Annotated[float | None, typer.Option(help="LoRA's alpha (default: the rank).")]
Rslora = Annotated[bool, typer.Option("--rslora", help="Scale by alpha / sqrt(rank).")]
Alternations = Annotated[int | None, typer.Option(help="T of QPiSSA and LoftQ (default 1).")]
Svd = Annotated[str | None, typer.Option(help="fast (default), exact, or niter_<n> as in PEFT's pissa_niter_<n>.")]
Seed = Annotated[int, typer.Option(help="Seed of a random start.")]
Targets = Annotated[
    list[str] | None,
    typer.Option("--target-module", help="One or several (default: every projection of the layers)."),
]
Statistics = Annotated[
    list[Path] | None,
    typer.Option(help="Folder of statistics of data (results/statistics) for a method that sees data; one a kind."),
]
Scratch = Annotated[Path, typer.Option(help="Where decompositions are kept.")]
Gpus = Annotated[int, typer.Option(help="GPUs to use, 0 for the CPU.")]
SCRATCH = paths.DECOMPOSED
GPUS = min(1, len(gpus.visible()))
