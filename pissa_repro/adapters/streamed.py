"""Write a safetensors file one tensor at a time; its own writer wants all of them in memory."""

import json
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from pissa_repro.model.header import BITS
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import atomic


class Entry(NamedTuple):
    """A tensor that is to be written: its dtype as safetensors names it, its shape, and how to get it."""

    dtype: str
    shape: tuple[int, ...]
    make: Callable[[], torch.Tensor]

    @property
    def size(self) -> int:
        """Its bytes."""
        return math.prod(self.shape) * BITS[self.dtype] // 8


def refuse_no_space(out: Path, needed: int) -> None:
    """Raise UserError where the disk of a folder that is to be made has fewer bytes than it needs."""
    out.parent.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(out.parent).free) < needed:
        raise UserError(f"--out {out}: needs {needed:,} bytes, {free:,} are free there.")


def write(path: str | Path, entries: Mapping[str, Entry]) -> None:
    """Write the file, whole or not at all: eight bytes of length, a JSON header, then the tensors in its order.

    Wide dtypes come first, as in safetensors' own files, so that each tensor lies at a multiple of its value's size.
    """
    order = sorted(entries, key=lambda name: (-BITS[entries[name].dtype], name))
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in order:
        entry, begin = entries[name], end
        end += entry.size
        header[name] = {"dtype": entry.dtype, "shape": entry.shape, "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with atomic(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            file.write(entries[name].make().contiguous().reshape(-1).view(torch.uint8).numpy())
