"""What making starts and measuring their errors will cost, said before the work."""

import logging
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pissa_repro.linalg import krylov
from pissa_repro.linalg.spectrum import by_krylov, columns
from pissa_repro.model import checkpoint
from pissa_repro.runtime.specs import ModelStartSpec
from pissa_repro.starts.make import walk

log = logging.getLogger(__name__)


@dataclass
class Cost:
    """What a walk over weights takes: operations in float32 products, and bytes at the worst moment."""

    matrices: int = 0
    parameters: int = 0
    operations: float = 0.0
    memory: float = 0.0

    def add(self, shape: tuple[int, int], operations: float, copies: float, columns: int) -> None:
        """One weight, with so many float32 copies of it and so many columns of a basis at once."""
        self.matrices, self.parameters = self.matrices + 1, self.parameters + shape[0] * shape[1]
        self.operations += operations
        self.memory = max(self.memory, 4 * (copies * shape[0] * shape[1] + columns * sum(shape)))


def init_cost(folder: str, specs: Sequence[ModelStartSpec], copies: float = 3) -> Cost:
    """The cost of making these starts. Passes over a weight count 4 m n k, a quantizer's round trip 300 m n.

    copies: of the largest weight in float32, at the worst moment.
    """
    cost, factor_bytes = Cost(), 0
    shapes, by_modules = walk(folder, specs)
    for name, shape in shapes.items():
        here = [modules[name] for modules in by_modules]
        solvers = {(spec["options"]["svd"], columns(spec["rank"], shape)) for spec in here if "svd" in spec["options"]}
        operations = sum(decomposition_operations(shape, *solver) for solver in solvers)
        basis = 0
        for spec in here:
            alternations = spec["options"].get("alternations", 1)
            wide = spec["rank"] + krylov.OVERSAMPLE
            operations += (alternations - 1) * (4 * wide + 300) * shape[0] * shape[1]  # 300: the quantizer's round trip
            operations += 0 if spec["quant"] == "none" else (4 * spec["rank"] + 400) * shape[0] * shape[1]
            basis = max(basis, 2 * krylov.basis_size(columns(spec["rank"], shape) + krylov.OVERSAMPLE))
            factor_bytes += 4 * spec["rank"] * sum(shape)
        cost.add(shape, operations, copies, basis)
    cost.memory += factor_bytes
    return cost


def residual_cost(folder: str, specs: Sequence[ModelStartSpec]) -> Cost:
    """The cost of making these starts and writing their residuals: factors of one file of weights are held at once.

    Four copies of a weight: itself, the residual, the same as it is stored, and that quantized again.
    """
    cost, held = init_cost(folder, specs, copies=4), Counter[Path]()
    ranks = 4 * sum(spec["rank"] for spec in specs)
    for weight in checkpoint.weights(folder, list(walk(folder, specs)[0])).values():
        held[weight.path] += ranks * sum(weight.shape)
    largest = max(math.prod(tensor.shape) for tensor in checkpoint.stored(folder).values())  # an embedding, mostly
    cost.memory = max(cost.memory - held.total(), 4 * largest) + max(held.values())
    return cost


def error_cost(folder: str, specs: Sequence[ModelStartSpec]) -> Cost:
    """The cost of making these starts and measuring their errors: all singular values, twice and once per start.

    The eigenvalues of a Gram matrix count three times, because half of their work waits for memory.
    """
    cost = init_cost(folder, specs)
    for shape in walk(folder, specs)[0].values():
        small = min(shape)
        cost.operations += (1 + len(specs)) * (shape[0] * shape[1] * small + 4 * small**3)
        cost.memory = max(cost.memory, 4 * (4 * shape[0] * shape[1] + small**2))
    return cost


def decomposition_operations(shape: tuple[int, int], svd: str, rank: int) -> float:
    """Operations of one decomposition: subspace iteration, block Krylov, or the Gram matrix and its eigenvectors."""
    small, wide = min(shape), rank + krylov.OVERSAMPLE
    if svd.startswith("niter_"):
        return 4 * shape[0] * shape[1] * rank * (1 + int(svd.removeprefix("niter_")))
    if svd == "fast" and by_krylov(wide, shape):
        return 5 * shape[0] * shape[1] * krylov.basis_size(wide)
    return shape[0] * shape[1] * small + 12 * small**3


def announce(cost: Cost) -> None:
    """Say how long it will take, from the speed of a product measured now, and how much memory."""
    seconds = cost.operations / speed() + cost.parameters * 2e-9
    log.info(
        "%d matrices, %.3g parameters: about %s and %.1f GiB beside what Python itself takes",
        cost.matrices, cost.parameters, duration(seconds), cost.memory / 2**30,
    )  # fmt: skip


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, rounded as an estimate is."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{max(1, round(seconds))} s"


def speed() -> float:
    """Operations a second of a float32 product (2048, 2048) x (2048, 64), the median of five."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    left, right = torch.ones(2048, 2048, device=device), torch.ones(2048, 64, device=device)
    times = []
    for _ in range(6):
        started = time.perf_counter()
        (left @ right).sum().item()
        times.append(time.perf_counter() - started)
    return 2 * left.numel() * right.shape[1] / sorted(times[1:])[2]
