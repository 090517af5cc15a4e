"""The best LoRA of a given rank for the change that a training has made, and what it leaves out."""

from collections.abc import Iterable

import torch


def truncated(
    updates: Iterable[tuple[str, torch.Tensor, torch.Tensor]], rank: int
) -> tuple[dict[str, tuple[torch.Tensor, torch.Tensor]], float]:
    """A (rank, in) and B (out, rank), float32, of every module's B' @ A', and |left out| / |change| over all of them.

    The product is never made: its singular values are those of the small product of two QR's triangles, in float64. A
    module with fewer columns than the rank is filled up with zeros.
    """
    made, kept, left = {}, 0.0, 0.0
    for name, a, b in updates:
        (q_b, r_b), (q_a, r_a) = torch.linalg.qr(b), torch.linalg.qr(a.mT)
        u, s, vh = torch.linalg.svd(r_b @ r_a.mT)
        k = min(rank, len(s))
        root = s[:k].sqrt()
        small_a, small_b = a.new_zeros(rank, a.shape[1]), b.new_zeros(len(b), rank)
        small_a[:k] = root.unsqueeze(1) * (vh[:k] @ q_a.mT)
        small_b[:, :k] = (q_b @ u[:, :k]) * root
        made[name] = small_a.float(), small_b.float()
        kept, left = kept + s[:k].square().sum().item(), left + s[k:].square().sum().item()
    total = kept + left
    return made, (left / total) ** 0.5 if total else 0.0
