"""Exact singular triples and values through the Gram matrix of the smaller side.

On the CPU by SciPy: its LAPACK computes a range of eigenvectors only, its BLAS multiplies a matrix
with its own transpose at half the cost, and its eigenvalues in float32 are more accurate than those of
the one in torch 2.13 (docs/decisions.md). Singular values below sqrt(eps) times the largest
drown in a Gram matrix, so float32 is used only where the spectrum allows it, float64 elsewhere.
"""

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    import numpy as np

# The largest squared singular value over the smallest wanted one: up to here float32 keeps 1e-5.
SPAN = 1e3
# Estimated relative error of a nuclear norm above which float64 is used. The estimate was 7 to 700
# times the error in every case tried (noise, nf4 errors, decaying spectra, spikes up to 1000 x).
ESTIMATE = 3e-6


def triples(weight: torch.Tensor, first: int, last: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Singular triples first..last - 1 (0 is the largest) of float32 (m, n): U (m, c), S (c,), V (n, c), falling."""
    if weight.shape[0] < weight.shape[1]:
        u, s, v = triples(weight.mT, first, last)
        return v, s, u
    value, vector = _range(weight, first, last)
    if weight.dtype == torch.float32 and value[-1] * SPAN < largest(weight):
        _, vector = _range(weight.double(), first, last)
    image = weight @ vector.to(weight)
    u, s, rotation = torch.linalg.svd(image, full_matrices=False)
    return u, s, vector.to(weight) @ rotation.mT


def largest(weight: torch.Tensor) -> torch.Tensor:
    """A lower bound on the largest squared singular value, within a few percent: some power steps."""
    probe = weight[weight.norm(dim=1).argmax()]
    for _ in range(8):
        probe = weight.mT @ (weight @ (probe / probe.norm()))
    return probe.norm()


def frobenius(weight: torch.Tensor) -> torch.Tensor:
    """The norm (...) of float32 (..., m, n), float64, summed in float32 along a row only.

    On the CPU, torch 2.13 sums a whole norm in float32: 0.4 % too little for 4096 x 11008.
    """
    return torch.linalg.vector_norm(torch.linalg.vector_norm(weight, dim=-1).double(), dim=-1)


def squared(weight: torch.Tensor) -> torch.Tensor:
    """The squared singular values (min(m, n),) of (m, n), rising, in the dtype of the weight."""
    small = weight if weight.shape[0] <= weight.shape[1] else weight.mT
    if weight.is_cuda:
        return torch.linalg.eigvalsh(small @ small.mT).clamp(min=0)
    from scipy.linalg import eigvalsh

    return torch.from_numpy(eigvalsh(_lower(small), lower=True, driver="ev", **_UNCHECKED)).clamp(min=0)


def values(weight: torch.Tensor) -> torch.Tensor:
    """All singular values (min(m, n),) of (m, n) in falling order, float64."""
    return squared(weight.double()).sqrt().flip(0)


def nuclear(weight: torch.Tensor) -> float:
    """The sum of the singular values of float32 (m, n), within 1e-6.

    float32 blurs each squared value by up to eps times the largest, at random. The sum feels the
    blur of a value s as blur / 2s; values below the blur are lost.
    """
    squares = squared(weight).double()
    blur = torch.finfo(torch.float32).eps / 2 * squares[-1]
    clear, lost = squares[squares > 4 * blur], (squares <= 4 * blur).sum()
    error = blur / 2 * (1 / clear).sum().sqrt() + lost * blur.sqrt()
    total = squares.sqrt().sum()
    return (total if error <= ESTIMATE * total else values(weight).sum()).item()


_UNCHECKED = {"check_finite": False, "overwrite_a": True}


def _lower(small: torch.Tensor) -> "np.ndarray":
    """The lower triangle of W W^T for W (m, n) on the CPU, m <= n, as a NumPy array."""
    from scipy.linalg import blas

    rank_k = blas.dsyrk if small.dtype == torch.float64 else blas.ssyrk
    wide = small.is_contiguous()  # else it is the view of a tall one
    stored = small if wide else small.mT.contiguous()
    return rank_k(1.0, stored.numpy().T, trans=wide, lower=1)  # the transpose is Fortran order: no copy


def _range(weight: torch.Tensor, first: int, last: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvalues (c,) and eigenvectors (n, c) first..last - 1 of W^T W, falling; W (m, n), m >= n."""
    n = weight.shape[1]
    if weight.is_cuda:
        value, vector = torch.linalg.eigh(weight.mT @ weight)
        return value.flip(0)[first:last], vector.flip(1)[:, first:last]
    from scipy.linalg import eigh

    wanted = (n - last, n - first - 1)
    value, vector = eigh(_lower(weight.mT), lower=True, subset_by_index=wanted, driver="evr", **_UNCHECKED)
    return torch.from_numpy(value).flip(0), torch.from_numpy(vector).flip(1)
