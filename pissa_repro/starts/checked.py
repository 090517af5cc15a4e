"""What a method's file gives is looked at before anything is made of it."""

import math
from collections.abc import Iterator
from typing import Any

import torch

from pissa_repro import methods
from pissa_repro.runtime.errors import UserError


def check(name: str, shape: tuple[int, ...], start: methods.Start, method: str) -> None:
    """Raise UserError for a start of a weight (out, in) that is not as `methods.Start` says.

    name: the module; method: its file is named in the message.
    """
    for wrong in _wrongs(shape, start):
        if wrong:
            raise UserError(f"{methods.PLUGINS.file(method)}: start of {name} {shape}: {wrong}.")


def _wrongs(shape: tuple[int, ...], start: Any) -> Iterator[str | None]:
    if not isinstance(start, methods.Start):
        yield f"it gives {_said(start)}; it must be a methods.Start"
    else:
        yield from (check(shape, start) for check in (_factors, _offset, _core, _trained))


def _factors(shape: tuple[int, ...], start: methods.Start) -> str | None:
    out, into = shape
    k = _rows(start.A)
    if not 1 <= k <= min(shape):
        return f"A has rank {k}; ranks go from 1 to {min(shape)}"
    return _wrong("A", start.A, (k, into)) or _wrong("B", start.B, (out, k))


def _offset(shape: tuple[int, ...], start: methods.Start) -> str | None:
    offset: Any = start.offset
    out, into = shape
    if offset is None or (isinstance(offset, str) and offset == "start"):
        return None
    if not isinstance(offset, tuple) or len(offset) != 2:
        return f"offset is {offset!r}; it must be None, 'start' or a pair (A, B)"
    q = max(1, _rows(offset[0]))
    return _wrong("A of the offset", offset[0], (q, into)) or _wrong("B of the offset", offset[1], (out, q))


def _core(shape: tuple[int, ...], start: methods.Start) -> str | None:
    core: Any = start.core
    free: Any = start.free
    k = len(start.A)
    if core is None:
        return None if free is None else "free marks entries of a core, and there is none"
    if wrong := _wrong("core", core, (k,) if getattr(core, "ndim", 2) == 1 else (k, k)):
        return wrong
    if free is None:
        return None
    if not isinstance(free, torch.Tensor) or free.dtype != torch.bool or free.shape != core.shape:
        return f"free is {_said(free)}; it must be bool, of the core's shape {tuple(core.shape)}"
    if "core" not in start.trained:
        return f"free marks entries of a core that does not train (trained is {start.trained!r})"
    return None if free.any() else "free lets no entry of the core change; leave 'core' out of trained instead"


def _trained(shape: tuple[int, ...], start: methods.Start) -> str | None:
    trained = start.trained
    if not isinstance(trained, tuple) or not all(part in methods.PARTS for part in trained):
        return f"trained is {trained!r}; it must be a tuple of {', '.join(methods.PARTS)}"
    return None if start.trains else f"trained is {trained!r}: nothing of it is there, so nothing would train"


def _wrong(part: str, tensor: Any, shape: tuple[int, ...]) -> str | None:
    """What is wrong with a part, in words."""
    if not isinstance(tensor, torch.Tensor) or tensor.dtype != torch.float32 or tensor.shape != shape:
        return f"{part} is {_said(tensor)}; it must be float32 of shape {shape}"
    if not math.isfinite(tensor.abs().max().item()):  # torch's max keeps NaN
        return f"{part} holds NaN or infinities"
    return None


def _rows(value: Any) -> int:
    return value.shape[0] if isinstance(value, torch.Tensor) and value.ndim else 0


def _said(value: Any) -> str:
    if not isinstance(value, torch.Tensor):
        return repr(value)
    return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"
