"""Low-rank parts of a matrix M (out, in) that weigh what a module sees: inputs x with the covariance C = E[x x^T].

The best rank r of M for the error E|(M - L) x|^2 = |(M - L) R|^2 with R R^T = C is R^-1 behind the r largest triples
U S V^T of M R (QERA, theorem 1; CLoQ). As V^T R^-1 = S^-1 U^T M, it is the projection U U^T M: nothing is
inverted, any root R gives the same, and C need not have full rank.
"""

import torch

from pissa_repro.linalg.spectrum import Spectrum, Triples, exact

STEEP = 1e-3  # the last wanted value over the first: below, as where one input is 1,000 times the others, in float64


def damped(covariance: torch.Tensor, damping: float) -> torch.Tensor:
    """C + damping * mean eigenvalue of C * 1, float64 (in, in)."""
    wide = covariance.double()
    return wide + damping * wide.diagonal().mean() * torch.eye(len(wide), dtype=wide.dtype, device=wide.device)


def root(covariance: torch.Tensor) -> torch.Tensor:
    """R (in, in) with R R^T = C, float64: the Cholesky factor, or where C has not full rank, from its eigenvectors.

    Eigenvalues below zero, which rounding makes of zeros, are taken for zeros.
    """
    factor, failed = torch.linalg.cholesky_ex(covariance.double())
    if not failed:
        return factor
    value, vector = torch.linalg.eigh(covariance.double())
    return vector * value.clamp(min=0).sqrt()


def leading(spectrum: Spectrum, matrix: torch.Tensor, weights: torch.Tensor, rank: int, solver: str) -> Triples:
    """U S V^T R^-1 for the `rank` largest triples of M R, M float32 (out, in).

    spectrum: of the module that M belongs to. weights: R (in, in), or its diagonal (in,), float64. Raises UserError
    where M R has fewer triples.
    """
    seen = matrix * weights if weights.ndim == 1 else matrix.double() @ weights
    found = spectrum.of(seen.float(), "weighted by the data")
    triples = found.solve(found.weight, rank, solver)
    if solver in ("fast", "exact") and triples.S[-1] <= STEEP * triples.S[0]:
        triples = exact(seen, 0, rank)
    found.check(triples.S, triples.S[0])
    return behind(triples, matrix)


def behind(triples: Triples, matrix: torch.Tensor) -> Triples:
    """U S V^T R^-1 of triples of M R: the same U and S, and S^-1 U^T M in the place of V^T; float32.

    U diag(S) Vh is U U^T M: it depends on the span of U alone. S must not be zero.
    """
    rows = triples.U.double().mT @ matrix.double() / triples.S.double()[:, None]
    return Triples(triples.U.float(), triples.S.float(), rows.float(), triples.excess)


def error(rest: torch.Tensor, covariance: torch.Tensor) -> float:
    """E|M x|^2 = tr(M C M^T) of what a base misses, M (out, in), over inputs of covariance C (in, in); in float64."""
    wide = rest.double()
    return ((wide @ covariance.double()) * wide).sum().clamp(min=0).item()
