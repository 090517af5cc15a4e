"""Say which step of an adapter's life breaks, if any.

    pissa verify CELL --no-serve
    pissa verify RESIDUAL --base embedded
    pissa verify ADAPTER --base embedded --init INIT --residual RESIDUAL

DIR is a trained cell (results/cells/MODEL/DATA/CELL), a folder of initial factors, what `pissa decompose` wrote, or an
adapter that was trained elsewhere. The arrows are tried in order, and the first that breaks ends the walk:
save: files are whole and have the recorded hashes. load: the base is the recorded one, and has a place for everything.
init: the start on its base is the untouched model. train state: what was trained began with that start. merge: merging
keeps the logits. export: so do the forms of `pissa export`. convert: so does the plain LoRA, and back it has the same
bits. serve: vLLM, where it is installed, computes with the merged weights.
One model is in memory at a time; copies for a look go to TMPDIR. Exit code 1 when an arrow is broken.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from pissa_repro.cli import _options as options
from pissa_repro.cli._table import show
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.gpus import take


def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to look at.")],
    base: Annotated[str | None, typer.Option(help="The untouched model, where DIR is no cell.")] = None,
    init: Annotated[Path | None, typer.Option(help="The folder of the start, where it is elsewhere.")] = None,
    residual: Annotated[Path | None, typer.Option(help="The model that an adapter was trained on.")] = None,
    model: Annotated[Path | None, typer.Option(help="The record of a cell's model, where it is elsewhere.")] = None,
    revision: options.Revision = "main",
    serve: Annotated[bool, typer.Option("--serve/--no-serve", help="Also by vLLM, where it is installed.")] = True,
    gpus: options.Gpus = options.GPUS,
) -> None:
    """A table: each arrow, whether it holds, and its figures or the reason."""
    from functools import partial

    from pissa_repro.adapters import verify as walk  # with torch, which --help does not need
    from pissa_repro.starts import byhand

    take(gpus)
    record = byhand.model(base, revision) if base else None
    by = partial(_serve, gpus) if serve else None
    walked = walk.verify(walk.Asked(folder, record, init, residual, model, by))
    show(("arrow", "state", "what was found"), walked.arrows)
    if walked.broken:
        raise UserError(f"DIR {folder}: the arrow `{walked.broken.name}` is broken.")


def _serve(gpus: int, merged: Any, prompts: list[list[int]], tokenizer: Any) -> str:
    """vLLM with the merged weights, as scoring runs it."""
    from pissa_repro.adapters.arrows import Untried
    from pissa_repro.scoring import engines

    try:
        engines.check("vllm", gpus)
    except UserError as error:
        raise Untried(str(error)) from None
    try:
        _, checks = engines.VLLM(tokenizer, engines.Options("float32", 1, 2 * len(prompts[0]))).take(merged, prompts)
    except engines.EngineError as error:
        raise Untried(str(error)) from None
    return f"vLLM's log-probabilities within {checks['logprob_error']:.1e} nats of the merged model's"
