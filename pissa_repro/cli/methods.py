"""List the methods, or say what is known of one.

    pissa methods
    pissa methods lora_xs

A method is a file of pissa_repro/methods/; a config names it in `sweep.cells`, or under `methods:` with options.
"""

from typing import Annotated

import typer

from pissa_repro import methods as room
from pissa_repro.cli._table import show


def methods(
    name: Annotated[str | None, typer.Argument(help="A method; all, if it is not given.")] = None,
) -> None:
    """A method's names and the first line of its file; of one, its text, its facts and its options."""
    if name:
        _one(name)
        return
    loaded = [(name, room.load(name)) for name in room.names()]
    rows = [
        (name, method.DISPLAY, method.QUANTIZED_DISPLAY, (method.__doc__ or "").splitlines()[0])
        for name, method in loaded
    ]
    show(("method", "plain", "quantized", "what it is"), rows)


def _one(name: str) -> None:
    from pissa_repro.starts.described import facts, options  # makes a small start, with torch

    said = facts(name)
    print(f"{(room.load(name).__doc__ or '').strip()}\n")
    for about, text in said.items():
        print(f"{about}: {text}")
    if known := options(name):
        print()
        show(("option", "default", "acts on"), known)
