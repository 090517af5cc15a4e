"""Make a method's initial factors from a model's weights.

    pissa decompose embedded --method pissa --rank 16 --out start
    pissa decompose embedded --quant nf4 --alternations 5 --rank 16 --rank 64 --out starts

Says first what it will cost. Several ranks read and decompose each weight once. Writes a PEFT adapter folder
(OUT/r16, ... where there are several ranks) with init.json: start-up equality, norms of A, B and of what was taken
out of W, and the accuracy of the decomposition.
"""

from pathlib import Path
from typing import Annotated

import typer

from pissa_repro.cli import _options as options
from pissa_repro.runtime.gpus import take


def decompose(
    model: options.Model,
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    method: options.Method = "pissa",
    quant: options.Quant = "none",
    ranks: options.Ranks = None,
    alpha: options.Alpha = None,
    rslora: options.Rslora = False,
    alternations: options.Alternations = None,
    svd: options.Svd = None,
    seed: options.Seed = 0,
    target_modules: options.Targets = None,
    revision: options.Revision = "main",
    scratch: options.Scratch = options.SCRATCH,
    gpus: options.Gpus = options.GPUS,
) -> None:
    """One folder of factors per rank."""
    from pissa_repro.starts import byhand  # with torch, which --help does not need

    take(gpus)
    asked = byhand.Asked(method, quant, ranks or [16], alpha, rslora, alternations, svd, seed, target_modules)
    byhand.decompose(byhand.model(model, revision), asked, out, scratch)
