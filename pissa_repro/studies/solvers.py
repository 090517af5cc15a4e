"""Time the solvers over ranks, and measure their errors: the study of the paper's Table 6.

One row per solver and rank. seconds: decomposing every target module, reading left out. error: the mean
over the elements of |B A - B* A*|, with B* A* of the exact decomposition, averaged over the modules.
The paper says "sum of absolute differences" without naming what was averaged (docs/paper_facts.md 1.6), so
only trends can be compared. excess: |W - B A| over the best rank-r remainder, less 1 (Frobenius).
"""

import time
from collections import defaultdict
from typing import Any

import torch

from pissa_repro.linalg.spectrum import Spectrum, Triples, exact
from pissa_repro.model import checkpoint
from pissa_repro.runtime.progress import track
from pissa_repro.runtime.study_specs import SolversSpec
from pissa_repro.starts.make import check_ranks, generator, weights

COLUMNS = ("svd", "rank", "seconds", "error", "excess", "modules")
Sums = dict[tuple[str, int], dict[str, float]]


def solve(name: str, weight: torch.Tensor, rank: int, svd: str) -> tuple[Triples, float]:
    """The triples of one weight by one solver, and the seconds. Nothing is shared with other ranks, but fast
    and exact compute the columns that a sweep would share: the next power of two, and 32 more."""
    fresh = Spectrum(weight, lambda: generator(0, name), kept=0, name=name)
    _wait(weight)
    started = time.perf_counter()
    triples = fresh.principal(rank, svd)
    _wait(weight)
    return triples, time.perf_counter() - started


def _wait(weight: torch.Tensor) -> None:
    if weight.is_cuda:
        torch.cuda.synchronize()


def module_sums(name: str, weight: torch.Tensor, spec: SolversSpec) -> Sums:
    """Seconds, error and excess of one weight (out, in), by solver and rank."""
    best, energy = exact(weight, 0, max(spec["ranks"])), weight.double().square().sum().item()
    sums: Sums = {}
    for svd in spec["svd"]:
        for rank in spec["ranks"]:
            triples, seconds = solve(name, weight, rank, svd)
            wanted = best.top(rank)
            missed = (triples.U * triples.S) @ triples.Vh - (wanted.U * wanted.S) @ wanted.Vh
            rest = weight - (triples.U * triples.S) @ triples.Vh
            optimum = max(energy - wanted.S.double().square().sum().item(), 1e-300) ** 0.5
            excess = max(0.0, rest.double().norm().item() / optimum - 1)
            sums[svd, rank] = {"seconds": seconds, "error": missed.abs().mean().item(), "excess": excess}
    return sums


def time_solvers(folder: str, spec: SolversSpec) -> list[dict[str, Any]]:
    """One row per solver and rank, over all target modules."""
    targets = spec["target_modules"] or checkpoint.projections(folder)
    shapes = checkpoint.shapes(folder, targets)
    check_ranks(shapes, spec["ranks"])
    total: dict[tuple[str, int], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for name, weight in track(weights(folder, targets), "solvers", len(shapes)):
        for place, values in module_sums(name, weight, spec).items():
            for key, value in values.items():
                total[place][key] += value
    return [
        {"svd": svd, "rank": rank, "seconds": sums["seconds"], "modules": len(shapes),
         "error": sums["error"] / len(shapes), "excess": sums["excess"] / len(shapes)}
        for (svd, rank), sums in total.items()
    ]  # fmt: skip
