"""Split a model into a residual and its initial adapter.

    pissa decompose embedded --method pissa --rank 16 --out residual
    pissa decompose embedded --quant nf4 --alternations 5 --rank 16 --rank 64 --dtype bfloat16 --out residuals
    pissa decompose embedded --rank 16 --factors --out start

OUT is a model folder, like those that PiSSA and LoftQ publish: the frozen base quantize(W - sBA), dequantized, in the
place of every target weight, and the adapter A, B in OUT/pissa_init (loftq_init, ...), for PEFT. README.md in it says
how both are loaded, trained and converted. Several ranks are OUT/r16, ...: each weight is read and decomposed once.

Says first what it will cost; a file of weights is at no moment whole in memory. Stopped and run again, it goes on at
the file of weights where it stopped. With --factors no model is written, but the folders of initial factors that a
sweep makes, with init.json: start-up equality, norms of A, B and of what was taken out of W.
"""

from pathlib import Path
from typing import Annotated

import typer

from pissa_repro.cli import _options as options
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.gpus import take
from pissa_repro.runtime.record import refuse_existing


def decompose(
    model: options.Model,
    out: Annotated[Path, typer.Option(help="The folder to write; a new one.")],
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
    dtype: Annotated[
        str | None, typer.Option(help="float32, bfloat16 or float16, of the residual (default: each weight's own).")
    ] = None,
    base: Annotated[str | None, typer.Option(help="Hub id of MODEL, where it is a folder.")] = None,
    published_as: Annotated[str | None, typer.Option(help="Hub id that OUT will have, for the adapter.")] = None,
    revision: options.Revision = "main",
    factors: Annotated[bool, typer.Option("--factors", help="Only initial factors, no residual model.")] = False,
    scratch: options.Scratch = options.SCRATCH,
    gpus: options.Gpus = options.GPUS,
) -> None:
    """A few lines on what was written."""
    if factors and (dtype or base or published_as):
        raise UserError("--factors writes no residual: it takes no --dtype, --base or --published-as.")
    refuse_existing(out)
    from functools import partial

    from pissa_repro.adapters import released, released_plan
    from pissa_repro.starts import byhand, estimate  # with torch, which --help does not need
    from pissa_repro.starts.kept import Kept
    from pissa_repro.starts.make import start_modules

    take(gpus)
    record = byhand.model(model, revision)
    asked = byhand.Asked(
        method, quant, ranks or [16], alpha, rslora, alternations, svd, seed, target_modules, statistics or ()
    )
    if factors:
        byhand.decompose(record, asked, out, scratch)
        return
    specs = byhand.init_specs(asked, record["path"])
    byhand.refuse_redistribution(specs[0], "Add --factors.")
    known = byhand.known_of(asked, record)
    plan = released_plan.plan(released_plan.Asked(record, specs, out, dtype, base, published_as))
    estimate.announce(estimate.residual_cost(record["path"], specs))
    kept = Kept(scratch, record["fingerprint"])
    lines = released.write(plan, partial(start_modules, specs=specs, kept=kept, known=known))
    print("\n".join([*lines, f"Written: {out}"]))
