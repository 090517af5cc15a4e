"""Operations and bytes of our solvers in the leading order, and what the machine can do at most.

Which solvers a call runs, and how often, is watched: some of it depends on the spectrum.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from unittest.mock import patch

import torch
from init_contenders import ALTERNATIONS

from pissa_repro.linalg import gram, krylov

COPIED = 2**28  # bytes of the copy that measures the memory
ROUNDTRIP = 3  # passes over a matrix: read for the scales, then read and written
REST = 2 + ROUNDTRIP + 2 + 3  # of W - nf4(W): copy, round trip, negate, add
BASE = 1 + 3 + ROUNDTRIP  # of the base at the end: BA, W - BA, round trip
AROUND = {  # beside the solvers: products BA, and passes over the matrix
    "pissa-fast": (0, 0),
    "pissa-exact": (0, 0),
    "nuclear-ours": (0, 0),
    "nf4-ours": (0, ROUNDTRIP),
    "qpissa-5-fast": (ALTERNATIONS, (ALTERNATIONS - 1) * (REST + 2) + BASE),  # 2: BA is subtracted too
    "loftq-5-fast": (ALTERNATIONS, REST + (ALTERNATIONS - 1) * (REST + 2) + BASE),
}
Cost = tuple[float, float]  # operations, bytes read and written


def cost(name: str, call: Callable[[], object], shape: tuple[int, int], rank: int) -> Cost | None:
    """What one call of ours has to do; None for the others. Makes the call."""
    if name not in AROUND:
        return None
    products, passes = AROUND[name]
    size, parts = shape[0] * shape[1], _watched(call)
    return (
        2.0 * size * rank * products + sum(operations for operations, _ in parts),
        4.0 * size * passes + sum(moved for _, moved in parts),
    )


def _watched(call: Callable[[], object]) -> list[Cost]:
    """The costs of the solvers that run during the call."""
    with ExitStack() as stack:
        seen = {
            (module, name): stack.enter_context(patch.object(module, name, wraps=getattr(module, name)))
            for module, name in SOLVERS
        }
        call()
    parts = [SOLVERS[key](*one.args) for key, mock in seen.items() for one in mock.call_args_list]
    return [part for part in parts if part]


def _leading(weight: torch.Tensor, rank: int, _: object) -> Cost:
    """A first product with a block, then two a step."""
    passes = 2 * krylov.STEPS + 1
    block = krylov.basis_size(rank) / krylov.STEPS
    return 2.0 * weight.numel() * block * passes, 1.0 * weight.nbytes * passes


def _improved(weight: torch.Tensor, start: torch.Tensor) -> Cost:
    return 4.0 * weight.numel() * start.shape[-1], 2.0 * weight.nbytes


def _triples(weight: torch.Tensor, start: int, stop: int) -> Cost | None:
    """The eigenvalues' work, and r vectors; wide matrices come again transposed."""
    (m, n), rank = weight.shape, stop - start
    if m < n:
        return None
    operations, moved = _squared(weight)
    return operations + rank * (2.0 * n**2 + 2.0 * m * n), moved + weight.nbytes


def _squared(weight: torch.Tensor) -> Cost:
    """Half a product with the own transpose, and the reduction to tridiagonal form.

    Half of the reduction multiplies what is left of the matrix, of which one triangle is read, with one
    vector after the other: n^3 / 6 numbers.
    """
    m, n = max(weight.shape), min(weight.shape)
    return m * n**2 + 4 / 3 * n**3, weight.nbytes + weight.itemsize * n**3 / 6


SOLVERS: dict[tuple[object, str], Callable[..., Cost | None]] = {
    (krylov, "leading"): _leading,
    (krylov, "improved"): _improved,
    (gram, "triples"): _triples,
    (gram, "squared"): _squared,
}


def peaks(n: int, device: str) -> dict[str, float]:
    """Operations a second of a float32 product (n, n) by (n, 512), bytes a second of a copy: the best of five."""
    square, thin = torch.randn(n, n, device=device), torch.randn(n, 512, device=device)
    source = torch.zeros(COPIED, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    product = min(timed(lambda: square @ thin, device)[0] for _ in range(5))
    copy = min(timed(lambda: target.copy_(source), device)[0] for _ in range(5))
    return {"product_peak": 2 * n * n * 512 / product, "copy_peak": 2 * COPIED / copy}


def timed(call: Callable[[], object], device: str) -> tuple[float, object]:
    """Wall seconds of a call, to its end also on a GPU, and its result."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    started = time.perf_counter()
    found = call()
    wait()
    return time.perf_counter() - started, found
