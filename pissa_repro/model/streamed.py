"""Write a safetensors file one tensor at a time; its own writer wants all of them in memory."""

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from pissa_repro.model.header import BITS
from pissa_repro.runtime.record import atomic


class Place(NamedTuple):
    """What a file promises of a tensor: its dtype as safetensors names it, and its shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Its bytes."""
        return math.prod(self.shape) * BITS[self.dtype] // 8


class Entry(NamedTuple):
    """A tensor that is to be written: its dtype as safetensors names it, its shape, and how to get it."""

    dtype: str
    shape: tuple[int, ...]
    make: Callable[[], torch.Tensor]

    @property
    def size(self) -> int:
        """Its bytes."""
        return Place(self.dtype, self.shape).size


def order(places: Mapping[str, Place | Entry]) -> list[str]:
    """The names as they follow each other in a file: wide dtypes first, as in safetensors' own.

    So each tensor lies at a multiple of its value's size.
    """
    return sorted(places, key=lambda name: (-BITS[places[name].dtype], name))


@contextlib.contextmanager
def opened(path: str | Path, places: Mapping[str, Place | Entry]) -> Iterator[Callable[[torch.Tensor], None]]:
    """A file that appears whole or not at all: eight bytes of length, a JSON header, then the tensors.

    Yields a function that takes them in `order`, on any device, each in the dtype and shape of its place.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in order(places):
        place, begin = places[name], end
        end += place.size
        header[name] = {"dtype": place.dtype, "shape": place.shape, "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with atomic(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)

        def put(tensor: torch.Tensor) -> None:
            file.write(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())

        yield put


def write(path: str | Path, entries: Mapping[str, Entry]) -> None:
    """Write the file, whole or not at all; each tensor is made when its turn comes."""
    with opened(path, entries) as put:
        for name in order(entries):
            put(entries[name].make())
