"""Show the model card of a trained cell, with its scores.

    pissa card CELL

CELL is results/cells/MODEL/DATA/CELL, or the trained/ in it. The README.md that its training has left knows no scores;
--write puts this one in its place.
"""

from pathlib import Path
from typing import Annotated

import typer


def card(
    cell: Annotated[Path, typer.Argument(help="The folder of a trained cell.")],
    write: Annotated[bool, typer.Option("--write", help="Write it to trained/README.md.")] = False,
    init: Annotated[Path | None, typer.Option(help="The folder of the start, where it is elsewhere.")] = None,
    model: Annotated[Path | None, typer.Option(help="The record of the base model, where it is elsewhere.")] = None,
) -> None:
    """Print it, or write it."""
    from pissa_repro.adapters import cells, trained  # with torch, which --help does not need
    from pissa_repro.runtime.record import atomic

    stored = cells.read(cell, init, model)
    text, place = trained.card_of(stored), None
    if write:
        place = stored.trained / "README.md"
        with atomic(place) as file:
            file.write(text)
    print(f"Written: {place}" if place else text)
