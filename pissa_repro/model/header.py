"""The header of a safetensors file: what it says is compared with itself and with the file's size.

The format, and every check, is that of the safetensors library (its README, "Format", and `Metadata::validate`), which
would stop with an error of its own only when a tensor is read.
"""

import itertools
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from pissa_repro.model.folder import LARGEST
from pissa_repro.runtime.errors import UserError

BITS = (  # of one element, by safetensors' names of the dtypes
    dict.fromkeys(("F4",), 4)
    | dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6)
    | dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8)
    | dict.fromkeys(("I16", "U16", "F16", "BF16"), 16)
    | dict.fromkeys(("I32", "U32", "F32"), 32)
    | dict.fromkeys(("I64", "U64", "F64", "C64"), 64)
)


class Stored(NamedTuple):
    """A tensor as a safetensors header describes it."""

    path: Path
    dtype: str  # as safetensors names it: F32, BF16, ...
    shape: tuple[int, ...]


def header(path: Path) -> dict[str, Stored]:
    """What the file holds; its size is compared with what its header promises (a cut download begins well).

    Raises UserError for a header that is no JSON object of tensors, one without any, tensors that overlap,
    leave a gap or have another length than their shape and dtype, and a file of another size.
    """
    whole = path.stat().st_size
    try:
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if size > min(LARGEST, whole - 8):
                raise ValueError(f"it would be {size} bytes long")
            entries, tensors = _entries(file.read(size)), {}
        spans = []
        for name, entry in entries.items():
            shape, (begin, end) = entry["shape"], entry["data_offsets"]
            _check(name, entry["dtype"], shape, begin, end)
            tensors[name] = Stored(path, entry["dtype"], tuple(shape))
            spans.append((begin, end, name))
        last = _last(spans)
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise UserError(f"{path}: damaged safetensors header ({error}). Fetch the model again.") from None
    if whole != 8 + size + last:
        raise UserError(f"{path}: {whole} bytes, its header promises {8 + size + last}. Fetch it again.")
    return tensors


def _entries(text: bytes) -> dict[str, Any]:
    if text[:1] != b"{":
        raise ValueError("it does not begin with '{'")
    entries: Any = json.loads(text.decode("utf-8"))
    metadata = entries.pop("__metadata__", None)
    if metadata is not None and not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its metadata are no texts")
    if not entries:
        raise ValueError("it holds no tensor")
    return entries


def _check(name: str, dtype: Any, shape: Any, begin: Any, end: Any) -> None:
    """Raise ValueError for numbers that are none, and where shape and dtype make another length than the offsets."""
    if dtype not in BITS:
        raise ValueError(f"{name} has the unknown dtype {dtype!r}")
    if any(type(number) is not int or number < 0 for number in (*shape, begin, end)):
        raise ValueError(f"{name} has a shape or an offset that is no natural number")
    if 8 * (end - begin) != math.prod(shape) * BITS[dtype]:
        raise ValueError(f"{name} {tuple(shape)} in {dtype} does not take {end - begin} bytes")


def _last(spans: list[tuple[int, int, str]]) -> int:
    """Where the last tensor ends. Raises ValueError where two overlap or bytes between them belong to none."""
    spans.sort()
    for (_, end, _), (begin, _, name) in itertools.pairwise([(0, 0, ""), *spans]):
        if begin != end:
            raise ValueError(f"{name} begins at byte {begin}, the tensor before ends at {end}")
    return spans[-1][1]
