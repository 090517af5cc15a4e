"""Show what an upload to a hub would make public, or upload.

    pissa push LORA owner/name
    pissa push LORA owner/name --private --exclude notes.txt

Nothing is sent without --really: the files with their sizes are listed, what the model card lacks, what must not be
public (paths and names of this machine, tokens, states of a training, pickles), and the `hf upload` command that does
the same. With --really the files are sent by huggingface_hub, unless something must not be public.
"""

from pathlib import Path
from typing import Annotated

import typer


def push(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="An adapter, a model, or a cell's trained/.")],
    repo: Annotated[str, typer.Argument(help="The repository, owner/name; it is made if there is none.")],
    exclude: Annotated[list[str] | None, typer.Option(help="Leave out the files that match; one or several.")] = None,
    private: Annotated[bool, typer.Option("--private", help="Make the repository private, if it is new.")] = False,
    really: Annotated[bool, typer.Option("--really", help="Upload.")] = False,
) -> None:
    """The list, and the address of what was sent."""
    from pissa_repro.adapters import push as room  # with torch, which --help does not need

    asked = room.plan(folder, repo, exclude or [], private)
    print("\n".join(room.lines(asked)))
    print(f"Sent: {room.upload(asked)}" if really else "Nothing was sent. --really sends the files, as does:")
    if not really:
        print(f"    {asked.command}")
