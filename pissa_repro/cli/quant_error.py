"""Measure quantization errors: of starts, or of stored factors.

Of starts that are made on the way, one per rank:

    pissa quant-error embedded --quant nf4 --rank 16 --rank 64 --out errors.json

Of factors in a folder; after training, and on other bases than the one that they were trained on:

    pissa quant-error embedded --factors START --out start.json
    pissa quant-error embedded --factors START --trained TRAINED --evaluated-as none --evaluated-as nf4 --out both.json

By the data too, with what a sweep with `studies.data` leaves in results/statistics and results/fetch/data:

    pissa quant-error embedded --factors START --covariance COVARIANCE --rows ROWS.jsonl --out weighed.json

error = nuc(W - (base + sBA)), reduction = 100 * (1 - error / nuc(W - quantize(W))) percent, per module; averaged over
the layers of a projection type; avg is the mean over types (paper, section 4, equation 8). weighted = the root of the
mean |(W - (base + sBA)) x|^2 over inputs x of a module; divergence = KL(model || start), nats per token.
"""

import time
from pathlib import Path
from typing import Annotated

import typer

from pissa_repro.cli import _options as options
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.gpus import take


def quant_error(
    model: options.Model,
    out: Annotated[Path, typer.Option(help="The record to write.")],
    factors: Annotated[Path | None, typer.Option(help="Folder of initial factors, whose record says the rest.")] = None,
    trained: Annotated[Path | None, typer.Option(help="Folder of factors trained from them.")] = None,
    evaluated_as: Annotated[
        list[str] | None, typer.Option(help="Quantization of the base to measure on; may be given several times.")
    ] = None,
    method: options.Method = "pissa",
    quant: options.Quant = "none",
    ranks: options.Ranks = None,
    alpha: options.Alpha = None,
    rslora: options.Rslora = False,
    alternations: options.Alternations = None,
    svd: options.Svd = None,
    seed: options.Seed = 0,
    target_modules: options.Targets = None,
    statistics: options.Statistics = None,
    covariance: Annotated[
        Path | None, typer.Option(help="Folder of covariances (results/statistics): errors also weighed by them.")
    ] = None,
    rows: Annotated[
        Path | None, typer.Option(help="The rows behind --covariance: also the divergence of --factors over them.")
    ] = None,
    revision: options.Revision = "main",
    scratch: options.Scratch = options.SCRATCH,
    gpus: options.Gpus = options.GPUS,
) -> None:
    """One record."""
    if not factors and (trained or evaluated_as):
        raise UserError("--trained and --evaluated-as: give --factors too, the start that was trained.")
    if rows and (trained or not (factors and covariance)):
        raise UserError("--rows: give --factors and --covariance too, and no --trained: a start is compared over them.")
    from pissa_repro.runtime.provenance import provenance
    from pissa_repro.runtime.record import write_json
    from pissa_repro.sources.fetched import base_of
    from pissa_repro.starts import byhand  # with torch, which --help does not need

    take(gpus)
    started, base = time.perf_counter(), byhand.model(model, revision)
    if factors:
        facts = byhand.errors_of_stored(base, factors, trained, evaluated_as, covariance, rows)
    else:
        asked = byhand.Asked(
            method, quant, ranks or [16], alpha, rslora, alternations, svd, seed, target_modules, statistics or ()
        )
        facts = byhand.errors(base, asked, scratch, covariance)
    write_json(out, {"base": base_of(base), **facts, "provenance": provenance(started)})
