"""Singular values and value distributions of weights and residuals: Figures 3, 9, 10 and 11 of the paper."""

from typing import Any

import torch

from pissa_repro import quantizers
from pissa_repro.linalg.gram import values
from pissa_repro.linalg.spectrum import Spectrum
from pissa_repro.model import checkpoint
from pissa_repro.model.naming import matching
from pissa_repro.runtime.errors import unknown
from pissa_repro.runtime.progress import track
from pissa_repro.runtime.study_specs import GridPoint, SpectraSpec
from pissa_repro.starts.error import rest_of
from pissa_repro.starts.kept import Kept
from pissa_repro.starts.make import check_ranks, generator, spectrum, start_module, weights
from pissa_repro.studies.errors import start_spec

BINS = 401  # of a histogram, over six standard deviations of W to both sides
SAMPLE = 50_000  # values that a Student-t distribution is fitted to: its standard errors are about 1 %


class Distribution:
    """Counts of values in equal bins over [-limit, limit], and their mean and standard deviation."""

    def __init__(self, limit: float):
        self.limit, self.counts = limit, torch.zeros(BINS, dtype=torch.int64)
        self.n, self.sum, self.squares, self.outside = 0, 0.0, 0.0, 0

    def add(self, matrix: torch.Tensor) -> None:
        """Count the values of one more matrix."""
        inside = torch.histc(matrix, BINS, -self.limit, self.limit).long().cpu()
        self.counts, self.n = self.counts + inside, self.n + matrix.numel()
        self.outside += matrix.numel() - int(inside.sum())
        self.sum += matrix.sum(dtype=torch.float64).item()
        self.squares += torch.linalg.vector_norm(matrix, dtype=torch.float64).item() ** 2

    def record(self) -> dict[str, Any]:
        """mean, std, n, limit, counts (BINS,), and how many values lie outside."""
        mean = self.sum / self.n
        std = (self.squares / self.n - mean**2) ** 0.5
        facts = {"n": self.n, "mean": mean, "std": std, "limit": self.limit, "outside": self.outside}
        return facts | {"counts": self.counts.tolist()}


def residual(decomposed: Spectrum, rank: int) -> torch.Tensor:
    """PiSSA's residual W - U S Vh, float32 (out, in)."""
    top = decomposed.principal(rank)
    return decomposed.weight.addmm(top.U * top.S, top.Vh, alpha=-1)


def student_t(matrix: torch.Tensor, module: str) -> dict[str, float]:
    """df, loc and scale of the Student-t distribution most likely to give the values (a seeded sample of them)."""
    from scipy import stats

    flat = matrix.reshape(-1).cpu()
    chosen = torch.randint(flat.numel(), (min(SAMPLE, flat.numel()),), generator=generator(0, module))
    df, loc, scale = stats.t.fit(flat[chosen].double().numpy())
    return {"df": float(df), "loc": float(loc), "scale": float(scale), "sample": len(chosen)}


def one_matrix(name: str, decomposed: Spectrum, rank: int, quant: str) -> dict[str, Any]:
    """What the single-matrix figures show of one weight."""
    weight, rest = decomposed.weight, residual(decomposed, rank)
    quantized = quantizers.roundtrip(weight, quant)
    errors = {"qlora": weight - quantized}
    for method in ("loftq", "pissa"):
        spec = start_spec(GridPoint(method=method, quant=quant, rank=rank, alternations=1))
        errors[method] = rest_of(weight, start_module(name, decomposed, spec)[0], spec)
    matrices = {"W": weight, "residual": rest, "quantized": quantized, **{f"error_{k}": v for k, v in errors.items()}}
    limit = 6 * weight.std().item()
    return {
        "module": name,
        "shape": list(weight.shape),
        "singular_values": {key: values(matrix).tolist() for key, matrix in matrices.items()},
        "distributions": {key: distribution(matrices[key], limit) for key in ("W", "residual")},
        "student_t": {key: student_t(matrices[key], name) for key in ("W", "residual")},
    }


def distribution(matrix: torch.Tensor, limit: float) -> dict[str, Any]:
    """The distribution of one matrix."""
    counted = Distribution(limit)
    counted.add(matrix)
    return counted.record()


def measure_spectra(folder: str, spec: SpectraSpec, kept: Kept) -> dict[str, Any]:
    """The figures' numbers of a whole model. Raises UserError for an unknown module and a rank too high."""
    targets = spec["target_modules"] or checkpoint.projections(folder)
    shapes = checkpoint.shapes(folder, targets)
    check_ranks(shapes, [spec["rank"]])
    first = min(matching([f"{name}.weight" for name in shapes], targets[:1])[targets[0]], key=list(shapes).index)
    chosen = spec["module"] or first
    if chosen not in shapes:
        raise unknown("module", chosen, shapes, "config.studies.module")
    result: dict[str, Any] = {}
    everything: dict[str, Distribution] = {}
    for name, weight in track(weights(folder, targets), "spectra", len(shapes)):
        decomposed = spectrum(name, weight, kept)
        if not everything:
            limit = 6 * weight.std().item()
            everything = {key: Distribution(limit) for key in ("W", "residual")}
        everything["W"].add(decomposed.weight)
        everything["residual"].add(residual(decomposed, spec["rank"]))
        if name == chosen:
            result = one_matrix(name, decomposed, spec["rank"], spec["quant"])
    of_all = {key: counted.record() for key, counted in everything.items()}
    return result | {"all_modules": of_all, "modules": len(shapes)}
