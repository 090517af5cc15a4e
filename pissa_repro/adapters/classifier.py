"""What a trained cell that gives classes leaves beside A and B: its head, and the names of the classes."""

import shutil
from pathlib import Path

import torch

from pissa_repro.adapters import logits
from pissa_repro.adapters.cells import StoredCell
from pissa_repro.model import classes
from pissa_repro.model.merged import merged_model
from pissa_repro.model.tokens import load_tokenizer


def write_classes(cell: StoredCell, out: Path) -> None:
    """Put the names of the cell's classes beside an adapter; nothing for a cell that writes words."""
    if cell.head:
        shutil.copyfile(cell.trained / classes.FILE, out / classes.FILE)


def write_merged(cell: StoredCell, out: Path, dtype: str) -> None:
    """Write the merged model as transformers saves it, with its tokenizer: the base's files have no place for the head.

    The whole model is in memory. Raises UserError as merged_model.
    """
    source = cell.model["path"]
    made = merged_model(cell.whole, cell.model, logits.prompts(source)).model
    made.to(getattr(torch, dtype)).save_pretrained(out)
    load_tokenizer(source, needs_end=False).save_pretrained(out)
    write_classes(cell, out)
