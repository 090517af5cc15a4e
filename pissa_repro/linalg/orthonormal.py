"""How far a matrix is from orthonormal rows."""

import torch


def departure(rows: torch.Tensor) -> torch.Tensor:
    """|R R^T - 1| (Frobenius) of R (k, n), a float32 scalar that can be differentiated; 0 for orthonormal rows.

    At 0 itself there is no gradient, and autograd gives 0; at rounding's distance its length is 2 already.
    """
    rows = rows.float()
    return torch.linalg.norm(rows @ rows.mT - torch.eye(len(rows), device=rows.device))
