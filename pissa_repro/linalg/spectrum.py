"""Singular triples of a weight matrix: the largest, the smallest, the middle ones, and factors of them.

A `Spectrum` belongs to one weight and decomposes it once for every rank, method and option that asks.
The solvers are krylov.py (fast) and gram.py (exact); which one serves where was chosen by measurement
(benchmarks/init.py, docs/project/decisions/decompositions.md).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from pissa_repro.linalg import gram, krylov
from pissa_repro.runtime.errors import UserError

KEPT = 128  # ranks up to this one share one decomposition; above, each power of two has its own
SMALL = 512  # up to this side a full SVD is as fast as anything else
TOLERANCE = 5e-3  # relative excess over the best rank-r remainder (Frobenius); above it the exact solver takes over
STEPS = 3  # of subspace iteration in a warm start, at most
STANDS_OUT = 0.3  # the last value of the subspace over the last wanted one, up to which one step is enough
ORTHOGONAL = 1e-4  # largest entry of |U^T U - 1| that is accepted: float32 rounding, with room
_PARTS = {  # first and last triple of n, for a slice of r (paper, Figure 8)
    "minor": lambda n, r: (n - r, n),
    "middle": lambda n, r: ((n - r) // 2, (n - r) // 2 + r),
}


@dataclass(frozen=True)
class Triples:
    """Singular triples: U (out, r), S (r,) falling, Vh (r, in), float32.

    excess: estimate of |W - U S Vh| over the best rank-r remainder, less 1; 0 for an exact solver, None
    where it was not measured, or where the triples are not meant to be the largest.
    wide: Vh of these and of the next ones (r + o, in), where a warm start begins.
    """

    U: torch.Tensor
    S: torch.Tensor
    Vh: torch.Tensor
    excess: float | None = 0.0
    wide: torch.Tensor | None = None

    def float(self) -> "Triples":
        """The same in float32."""
        return Triples(self.U.float(), self.S.float(), self.Vh.float(), self.excess)

    def top(self, rank: int) -> "Triples":
        """The first `rank` of them."""
        beyond = self.Vh[: rank + krylov.OVERSAMPLE]
        return Triples(self.U[:, :rank], self.S[:rank], self.Vh[:rank], self.excess, beyond)


def columns(rank: int, shape: tuple[int, ...], kept: int = KEPT) -> int:
    """How many triples are computed for a rank, so that others can share them."""
    return min(max(kept, 1 << (rank - 1).bit_length()), *shape)


def by_krylov(wanted: int, shape: tuple[int, ...]) -> bool:
    """Whether block Krylov is the faster way to that many triples."""
    return 2 * krylov.basis_size(wanted) <= min(shape)


def leading(weight: torch.Tensor, rank: int, generator: torch.Generator) -> Triples:
    """The `rank` largest triples of float32 (out, in): block Krylov; exact where that is slower or misses TOLERANCE."""
    if not by_krylov(rank, weight.shape):
        return exact(weight, 0, rank)
    tall = weight.shape[0] >= weight.shape[1]
    u, s, v, missed = krylov.leading(weight if tall else weight.mT, rank, generator)
    remainder = gram.frobenius(weight) ** 2 - s.double().square().sum()
    excess = (missed / (2 * remainder).clamp(min=0)).item()  # where nothing remains, no number or infinite
    if not excess <= TOLERANCE:
        return exact(weight, 0, rank)
    return Triples(u, s, v.mT, excess) if tall else Triples(v, s, u.mT, excess)


def exact(weight: torch.Tensor, first: int, last: int) -> Triples:
    """The triples first..last - 1 of (out, in), 0 being the largest; as of a full SVD, in float32 within 1e-5.

    Small values beside large ones, and neighbours that are nearly equal, need float64.
    """
    if min(weight.shape) <= SMALL:
        u, s, vh = torch.linalg.svd(weight, full_matrices=False)
        return Triples(u[:, first:last], s[first:last], vh[first:last])
    u, s, v = gram.triples(weight, first, last)
    return Triples(u, s, v.mT)


def subspace(weight: torch.Tensor, rank: int, niter: int, generator: torch.Generator) -> Triples:
    """PEFT's `pissa_niter_<n>`: torch.svd_lowrank with q = r. Less exact than `leading`, for comparison (Table 6)."""
    devices = [weight.device] if weight.is_cuda else []
    with torch.random.fork_rng(devices):  # svd_lowrank draws from the global generator only
        torch.manual_seed(generator.initial_seed())
        u, s, v = torch.svd_lowrank(weight, q=rank, niter=niter)
    return Triples(u, s, v.mT, excess=None)


class Store(Protocol):
    """Where slices are kept beyond one `Spectrum` (starts/kept.py)."""

    def __call__(self, part: str, compute: Callable[[], Triples], /) -> Triples:
        """The slice of that name; where it is not kept yet, `compute` makes it."""


class Spectrum:
    """The singular triples of one weight, float32 (out, in), each slice computed once.

    generator: makes a fresh random generator that knows the weight's name, so that a result does not
    depend on what was asked before. keep: where slices are kept beyond this object; None for nowhere.
    name: of the weight, for errors. kept: ranks up to this one share a decomposition.
    """

    def __init__(
        self,
        weight: torch.Tensor,
        generator: Callable[[], torch.Generator],
        keep: Store | None = None,
        name: str = "the weight",
        kept: int = KEPT,
    ):
        self.weight, self.generator, self._keep, self.name, self._kept = weight, generator, keep, name, kept
        self._slices: dict[str, Triples] = {}

    def principal(
        self, rank: int, solver: str = "fast", part: str = "", matrix: Callable[[], torch.Tensor] | None = None
    ) -> Triples:
        """The `rank` largest triples, also none; of a smaller weight all. Raises UserError where too few are not zero.

        part, matrix: of another matrix that is made from the weight, such as its quantization error, by
        a name of its own. It is made only where its triples are not kept.
        """
        count = max(rank, 1)  # what niter_<n> gives depends on the rank, so there is nothing to share
        if solver in ("fast", "exact"):
            count = min(columns(rank, self.weight.shape, self._kept) + krylov.OVERSAMPLE, *self.weight.shape)

        def compute() -> Triples:
            return self.solve(matrix() if matrix else self.weight, count, solver)

        triples = self._slice(f"{part}{solver}-{count}", compute)
        self.check(triples.S[:rank], triples.S[0], part)
        return triples.top(rank)

    def solve(self, matrix: torch.Tensor, count: int, solver: str) -> Triples:
        """The `count` largest triples of a matrix, not checked and not shared."""
        if solver == "fast":
            return leading(matrix, count, self.generator())
        if solver == "exact":
            return exact(matrix, 0, count)
        return subspace(matrix, count, int(solver.removeprefix("niter_")), self.generator())

    def minor(self, rank: int) -> Triples:
        """The `rank` smallest triples. Raises UserError as `principal`, and for more than there are."""
        return self._exact_slice("minor", rank)

    def middle(self, rank: int) -> Triples:
        """The `rank` triples around the median one. Raises UserError as `minor`."""
        return self._exact_slice("middle", rank)

    def _exact_slice(self, part: str, rank: int) -> Triples:
        n, kept = min(self.weight.shape), columns(rank, self.weight.shape, self._kept)
        if not 0 <= rank <= n:
            raise UserError(f"{self.name} {tuple(self.weight.shape)}: {rank} {part} triples are asked for; it has {n}.")
        first, last = _PARTS[part](n, kept)
        triples = self._slice(f"{part}-{kept}", lambda: exact(self.weight.double(), first, last).float())
        cut = slice(*(place - first for place in _PARTS[part](n, rank)))
        self.check(triples.S[cut], gram.largest(self.weight).sqrt(), part)
        return Triples(triples.U[:, cut], triples.S[cut], triples.Vh[cut], excess=None)

    def of(self, matrix: torch.Tensor, what: str = "after quantization") -> "Spectrum":
        """The spectrum of another matrix of the same module, such as what quantization has changed; kept nowhere."""
        return Spectrum(matrix, self.generator, name=f"{self.name} ({what})")

    def near(self, matrix: torch.Tensor, before: Triples, solver: str = "fast") -> Triples:
        """The largest triples of a matrix near to the one that `before` belongs to, as many as `before` has.

        fast: subspace iteration from `before`. One step is enough where the wanted values stand out from
        the rest, as after QPiSSA's first alternation; where they do not, as in LoftQ, three are taken.
        Small matrices and other solvers start afresh.
        """
        rank = len(before.S)
        if solver != "fast" or before.wide is None or min(matrix.shape) <= max(SMALL, 2 * len(before.wide)):
            return self.of(matrix).principal(rank, solver)
        u, s, v = krylov.improved(matrix, before.wide.mT)
        for _ in range(STEPS - 1):
            if s[-1] <= STANDS_OUT * s[rank - 1]:
                break
            u, s, v = krylov.improved(matrix, v)
        missed = krylov.missed(matrix, u, s, v, rank)
        remainder = (gram.frobenius(matrix) ** 2 - s[:rank].double().square().sum()).clamp(min=1e-300)
        return Triples(u[:, :rank], s[:rank], v.mT[:rank], (missed / (2 * remainder)).item(), v.mT)

    def _slice(self, part: str, compute: Callable[[], Triples]) -> Triples:
        if part not in self._slices:
            triples = self._keep(part, compute) if self._keep else compute()
            side = triples.U if triples.U.shape[0] <= triples.Vh.shape[1] else triples.Vh.mT
            # Values that are zero to rounding have no direction: their vectors are what rounding leaves. NaN stays.
            s = triples.S
            side = side[:, ~(s <= self._floor(s, s.max()))]
            apart = (side.mT @ side - torch.eye(side.shape[1]).to(side)).abs()
            off = apart.max().item() if apart.numel() else 0.0
            if not off <= ORTHOGONAL:
                raise UserError(f"{self.name}: singular vectors miss orthogonality by {off:.1e} (limit {ORTHOGONAL}).")
            self._slices[part] = triples
        return self._slices[part]

    def _floor(self, s: torch.Tensor, largest: torch.Tensor) -> torch.Tensor:
        """What a singular value is that is zero to rounding, at most."""
        return 2 * max(self.weight.shape) ** 0.5 * torch.finfo(s.dtype).eps * largest

    def check(self, s: torch.Tensor, largest: torch.Tensor, part: str = "") -> None:
        """Raise UserError for singular values that are zero to rounding: their columns of A and B would never train."""
        floor = self._floor(s, largest)
        if len(s) and s[-1] <= floor:
            place = f"{self.name} ({part.strip('-')})" if part else self.name
            if not largest > 0:
                raise UserError(
                    f"{place} is zero: it has no direction to start from. Its weight is zero, or no inputs and no "
                    "gradient of these rows reach it. Leave the module out, or give rows that do."
                )
            raise UserError(
                f"{place} has {(s > floor).sum().item()} non-zero singular values, fewer than rank {len(s)}: the other "
                "columns of A and B would be zero and never train. Lower the rank, or leave the module out."
            )


def split(triples: Triples, scaling: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A (r, in) and B (out, r) with scaling * B @ A = U diag(S) Vh (PiSSA, equations 2 and 3).

    Both factors carry the square root of S / scaling, as in PEFT's `pissa`.
    """
    root = (triples.S / scaling).sqrt()
    return (root[:, None] * triples.Vh).contiguous(), (triples.U * root).contiguous()
