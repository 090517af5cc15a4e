"""Leading singular triples of a matrix by a randomised block Krylov method.

Musco and Musco, "Randomized block Krylov methods for stronger and faster approximate singular value
decomposition" (2015), algorithm 2, with CholeskyQR for the blocks. Bytes and operations of the
leading order for (m, n) and a basis of k columns: 4 m n k operations, 2 k / block passes over the
matrix; a full SVD needs about 8 m n min(m, n).
"""

from typing import NamedTuple

import torch

STEPS = 8  # blocks in the basis, and so 16 passes
BLOCK = 32  # columns at least: narrower products do not fill the processor
OVERSAMPLE = 32  # columns beyond the rank in a warm start
SPAN = 1e3  # of squared singular values: beyond it, float32 would blur the small ones, and float64 is used
WITHIN = 1e-3  # of a unit column within the basis: one projection leaves less than rounding of it


class Leading(NamedTuple):
    """U (m, r), S (r,), V (n, r). missed: estimated energy that the best r triples have more."""

    U: torch.Tensor
    S: torch.Tensor
    V: torch.Tensor
    missed: torch.Tensor


def basis_size(rank: int) -> int:
    """Columns of the basis that `leading` builds for this rank."""
    return STEPS * max(BLOCK, -(-rank // 2))


def leading(weight: torch.Tensor, rank: int, generator: torch.Generator) -> Leading:
    """The `rank` largest singular triples of float32 (m, n), and how much they miss.

    generator: on the CPU; it makes the first block. Needs m >= n >= basis_size(rank).
    """
    m, block = weight.shape[-2], basis_size(rank) // STEPS
    ahead = weight.mT @ torch.randn(m, block, generator=generator).to(weight)
    basis = weight.new_empty(*weight.shape[:-2], STEPS * block, weight.shape[-1]).mT
    image = weight.new_empty(*weight.shape[:-2], STEPS * block, m).mT  # weight @ basis
    for step in range(STEPS):
        here = slice(step * block, (step + 1) * block)
        basis[..., here] = _orthonormal(ahead, basis[..., : here.start])
        image[..., here] = weight @ basis[..., here]
        ahead = weight.mT @ image[..., here]
    value, rotation = _ritz(image)
    if (value[..., 0] > SPAN * value[..., rank - 1]).any():
        value, rotation = _ritz(image.double())
    value, rotation = value.to(weight), rotation[..., :rank].to(weight)
    # once more for the wanted ones, in float64: else U misses orthogonality by SPAN times the rounding
    value[..., :rank], mend = (part.to(weight) for part in _ritz((image @ rotation).double()))
    rotation, s = rotation @ mend, value[..., :rank].sqrt()
    u, v = image @ rotation / s[..., None, :].clamp(min=torch.finfo(s.dtype).tiny), basis @ rotation
    beyond = ahead - basis @ (basis.mT @ ahead)  # what the next block would have added
    coupling = torch.linalg.vector_norm(beyond @ rotation[..., -block:, :], dim=-2)
    return Leading(u, s, v, _missed(value, coupling, rank))


def improved(weight: torch.Tensor, near: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One step of subspace iteration on float32 (m, n) from `near` (n, c), any columns.

    Returns U (m, c), S (c,), V (n, c), S falling. With `near` close to the leading right
    singular vectors, as after one alternation, one step is enough (benchmarks/init.py).
    """
    left = _orthonormal(weight @ near)
    image = weight.mT @ left
    value, rotation = (part.to(weight) for part in _ritz(image.double()))
    s = value.sqrt()
    return left @ rotation, s, image @ rotation / s[..., None, :].clamp(min=torch.finfo(s.dtype).tiny)


def missed(weight: torch.Tensor, u: torch.Tensor, s: torch.Tensor, v: torch.Tensor, rank: int) -> torch.Tensor:
    """Estimate, as of `leading`, of the energy that the first `rank` of the triples `improved` has made miss."""
    rest = weight @ v[..., :rank] - u[..., :rank] * s[..., None, :rank]
    coupling = s[..., :rank] * torch.linalg.vector_norm(rest, dim=-2)
    return _missed(s.square(), coupling, rank)


def _ritz(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared singular values (k,) in falling order and right singular vectors (k, k) of the image."""
    value, vector = torch.linalg.eigh(image.mT @ image)
    return value.flip(-1).clamp(min=0), vector.flip(-1)


def _orthonormal(block: torch.Tensor, against: torch.Tensor | None = None) -> torch.Tensor:
    """The block (m, b) with orthonormal columns, orthogonal to `against`.

    Twice is enough, unless the block lies within `against`, as with equal singular values or a low
    rank: what is left of it is rounding, most of which can lie within again.
    """
    for attempt in range(5):
        within = None
        if against is not None and against.shape[-1]:
            within = against.mT @ block
            block = block - against @ within
        root, failed = torch.linalg.cholesky_ex(block.mT @ block, upper=True)
        if failed.any():  # columns that depend on each other, as with a matrix of low rank
            block = torch.linalg.qr(block)[0]
        else:
            block = torch.linalg.solve_triangular(root, block, upper=True, left=False)
        if attempt and (within is None or within.abs().max() < WITHIN):
            break
    return block


def _missed(value: torch.Tensor, coupling: torch.Tensor, rank: int) -> torch.Tensor:
    """Energy that the r Ritz values can still gain from outside of the basis.

    Each Ritz value q is coupled with strength c to directions outside, whose own values are taken to
    be at most those of the basis beyond r, h: it gains the growth of the larger eigenvalue of [[q, c], [c, h]].
    """
    gap = (value[..., :rank] - value[..., rank, None]).double()
    return ((gap**2 + 4 * coupling.double() ** 2).sqrt() - gap).sum(-1) / 2
