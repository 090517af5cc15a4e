"""What the record of a start says: norms of its parts, how far it misses W, and the worst and means over modules."""

import torch

from pissa_repro import methods, quantizers
from pissa_repro.linalg import gram
from pissa_repro.model import factors
from pissa_repro.runtime.record_types import StartFacts

ROWS = 256  # of a plain base are compared: it differs from W by rounding only, the same in every row


def measured(weight: torch.Tensor, start: methods.Start, scaling: float, quant: str) -> StartFacts:
    """Norms of the parts and of what is taken out, and start-up equality |W - (base + s B C A)| / |W|."""
    size = gram.frobenius(weight).item() or 1.0  # a weight of zeros is missed by zero
    part = 0.0 if start.taken is None else scaling * _product_norm(*start.taken) / size
    facts: StartFacts = {
        "equality_error": _equality_error(weight, start, scaling, quant) / size,
        "norm_A": start.A.norm().item(),
        "norm_B": start.B.norm().item(),
        "norm_offset": part,
        "excess": start.excess,
    }
    if start.core is not None:
        facts["norm_core"] = start.core.norm().item()
    return facts


def captured(energy: float, excess: float) -> tuple[float, float]:
    """The share of |W|^2 that the principal triples have taken out, and the most that any could."""
    return energy, 1 - (1 - energy) / (1 + excess) ** 2


def _product_norm(a: torch.Tensor, b: torch.Tensor) -> float:
    """|B @ A| without the product."""
    a, b = a.double(), b.double()
    return ((b.mT @ b) * (a @ a.mT)).sum().clamp(min=0).sqrt().item()


def _equality_error(weight: torch.Tensor, start: methods.Start, scaling: float, quant: str) -> float:
    """|W - (base + s B C A)|, over all rows of a quantized base; estimated from ROWS rows of a plain one."""
    step = max(1, len(weight) // ROWS) if quant == "none" else 1
    weight, count = weight[::step], len(weight)
    offset = None if start.taken is None else factors.product(start.taken[0], start.taken[1][::step], scaling)
    base = quantizers.base_weight(weight, offset, quant)
    total = 0.0
    for few in range(0, len(weight), 512):  # small temporaries
        rows = slice(few, few + 512)
        made = base[rows] + factors.product(start.A, start.wide[::step][rows], scaling)
        total += (weight[rows] - made).double().square().sum().item()
    return (count / len(weight) * total) ** 0.5


def summary(facts: dict[str, StartFacts]) -> StartFacts:
    """The worst equality error and excess, and the mean norms over modules (pitfalls 10 and 11, docs/pitfalls.md)."""
    of_modules = facts.values()
    means: StartFacts = {
        "equality_error": max(f["equality_error"] for f in of_modules),
        "norm_A": sum(f["norm_A"] for f in of_modules) / len(facts),
        "norm_B": sum(f["norm_B"] for f in of_modules) / len(facts),
        "norm_offset": sum(f["norm_offset"] for f in of_modules) / len(facts),
        "excess": max((f["excess"] for f in of_modules if f["excess"] is not None), default=None),
    }
    if cores := [f["norm_core"] for f in of_modules if "norm_core" in f]:
        means["norm_core"] = sum(cores) / len(facts)
    return means
