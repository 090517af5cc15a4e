"""Check an adapter of somebody else, to score it here.

    pissa adopt LORA --base embedded
    pissa adopt LORA --base embedded --model mini-llama --dataset gsm-mini-train --out theirs.yaml

ADAPTER is a LoRA's or DoRA's folder as PEFT or TRL writes it (a checkpoint's too). One that was trained on a residual
(PiSSA, OLoRA) needs its start, --init, or the released residual with the start inside, --residual. Its tensors are
compared with those that PEFT makes on MODEL, and a few weights tell whether the start, the residual and the base belong
together. Prints what was found and the lines of a config; with --out they are a new file, which the workflow takes:

    snakemake --cores all results/gsm8k_table.csv --configfile theirs.yaml

The adapter is then a cell that is scored, compared and tabled like the others, its training marked "trained elsewhere".
"""

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from pissa_repro.cli import _options as options
from pissa_repro.runtime.errors import UserError, unknown
from pissa_repro.runtime.record import atomic, refuse_existing


def adopt(
    adapter: Annotated[Path, typer.Argument(help="The trained adapter's folder.")],
    base: Annotated[str, typer.Option(help="The untouched model: a folder, a hub id, `embedded`, or a record.")],
    init: Annotated[Path | None, typer.Option(help="The folder of its start, taken out of the base.")] = None,
    residual: Annotated[Path | None, typer.Option(help="The folder of the residual, its start in pissa_init/.")] = None,
    quant: Annotated[str, typer.Option(help="Quantization of the base that it is scored on.")] = "none",
    prompt: Annotated[
        str | None, typer.Option(help="How it is asked: alpaca, chat or plain (default: as the sweep).")
    ] = None,
    trust: Annotated[bool, typer.Option("--trust", help="Take it for what is said, whatever its numbers are.")] = False,
    name: Annotated[str | None, typer.Option(help="Its name in the config (default: its folder's).")] = None,
    model: Annotated[str, typer.Option(help="The base's name in the config.")] = "MODEL",
    dataset: Annotated[str, typer.Option(help="The config's name of what it was trained on.")] = "DATASET",
    revision: options.Revision = "main",
    out: Annotated[Path | None, typer.Option(help="A config file to write; a new one.")] = None,
) -> None:
    """What was found, and the config."""
    if out:
        refuse_existing(out, "file")
    if init and residual:
        raise UserError("--init and --residual: give one; a residual has its start inside.")
    from pissa_repro import quantizers
    from pissa_repro.adapters.adopt import Asked, examine  # with torch, which --help does not need
    from pissa_repro.sources.prompt import CHAT, DEFAULT, FORMS
    from pissa_repro.starts import byhand

    quantizers.find(quant, "--quant")
    style = prompt or DEFAULT
    if style not in (*FORMS, CHAT):
        raise unknown("style of prompts", style, (*FORMS, CHAT), "--prompt")
    found = examine(Asked(adapter, init, residual, quant, trust, style), byhand.model(base, revision)).facts
    called = name or re.sub(r"[^A-Za-z0-9._-]+", "-", adapter.resolve().name).strip("-._")[:64]
    given = {"adapter": str(adapter), "model": model, "dataset": dataset}
    given |= {key: str(folder) for key, folder in (("init", init), ("residual", residual)) if folder}
    given |= {"quant": quant} if quant != "none" else {}
    given |= {"prompt": prompt} if prompt else {}
    text = _config(called, {**given, **({"trust": True} if trust else {})})
    print(f"Rank {found['rank']}, {found['trainable_parameters']:,} trained parameters; it belongs to the base.")
    print("\n".join([*found["notes"], "", text]))
    if out:
        with atomic(out) as file:
            file.write(text)


def _config(name: str, given: dict[str, object]) -> str:
    """The sections of a config, which are YAML and hold JSON's texts."""
    items = ", ".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in given.items())
    return f"adopted:\n  {json.dumps(name)}: {{{items}}}\nsweep:\n  adopted: [{json.dumps(name)}]\n"
