"""Export a trained cell for other tools: LoRA, model, residual.

    pissa export CELL --as merged --out merged
    pissa export CELL --as lora --rank 8 --out small
    pissa export CELL --as residual --dtype bfloat16 --out frozen

CELL is results/cells/MODEL/DATA/CELL; its start and base are found in these results, or given by --init and --model.
lora: on the untouched model, of twice the rank, or the best of --rank R with what it leaves out. merged: base + sBA.
residual: the base as it was trained on, dequantized, with the trained adapter in trained/ and its start beside.
peft-init: the start alone, for pissa convert and PEFT. DoRA has merged and residual.
A cell on a quantized base needs --base for lora and merged: bf16 is the model in full precision, and what quantization
changed is lost; trained is the base as it was trained on. Logits are compared with the trained cell's, relative: 1e-4
is the limit in float32, 2^-6 with bfloat16, and half of what the training moved them by. OUT is a new folder with a
model card.
"""

from pathlib import Path
from typing import Annotated

import typer


def export(
    cell: Annotated[Path, typer.Argument(help="The folder of a trained cell.")],
    form: Annotated[str, typer.Option("--as", help="lora, merged, residual or peft-init.")],
    out: Annotated[Path, typer.Option(help="The folder to write; a new one.")],
    base: Annotated[str | None, typer.Option(help="Of a quantized cell: bf16, or trained.")] = None,
    dtype: Annotated[str | None, typer.Option(help="Of whole weights (default: as the base stores them).")] = None,
    rank: Annotated[int | None, typer.Option(help="Of an approximate LoRA.")] = None,
    init: Annotated[Path | None, typer.Option(help="The folder of the start, where it is elsewhere.")] = None,
    model: Annotated[Path | None, typer.Option(help="The record of the base model, where it is elsewhere.")] = None,
    check: Annotated[bool, typer.Option("--check/--no-check", help="Compare logits: loads both models.")] = True,
) -> None:
    """A few lines on what was written."""
    from pissa_repro.adapters import cells  # with torch, which --help does not need
    from pissa_repro.adapters.export import export as run
    from pissa_repro.adapters.exportable import Asked

    asked = Asked(cells.read(cell, init, model), form, out, base, dtype, rank, check)
    print("\n".join([*run(asked), f"Written: {out}"]))
