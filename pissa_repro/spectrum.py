"""Principal and minor singular triples of a weight matrix, and the factors made from them."""

import torch

Triples = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def principal(weight: torch.Tensor, rank: int) -> Triples:
    """The `rank` largest singular triples of a float32 matrix (out, in).

    Returns U (out, rank), S (rank,) in falling order, Vh (rank, in). Exact (full SVD, LAPACK or
    cuSOLVER), so there is no seed and no number of iterations to record.
    """
    u, s, vh = torch.linalg.svd(weight, full_matrices=False)
    return u[:, :rank], s[:rank], vh[:rank]


def minor(weight: torch.Tensor, rank: int) -> Triples:
    """The `rank` smallest singular triples; shapes as `principal`, S in falling order."""
    u, s, vh = torch.linalg.svd(weight, full_matrices=False)
    return u[:, -rank:], s[-rank:], vh[-rank:]


def split(triples: Triples, scaling: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A (r, in) and B (out, r) with scaling * B @ A = U diag(S) Vh (PiSSA, equations 2 and 3).

    Both factors carry the square root of S / scaling, as in PEFT's `pissa`.
    """
    u, s, vh = triples
    root = (s / scaling).sqrt()
    return (root[:, None] * vh).contiguous(), (u * root).contiguous()
