"""Singular values and value distributions of weights and residuals: Figures 3, 9, 10 and 11 of the paper.

python -m pissa_repro.studies.spectra --spec "$SPEC" --model MODEL.json --out spectra.json

For one matrix: all singular values of W, of PiSSA's residual, of quantize(W), and of the errors of
QLoRA, LoftQ and QPiSSA (one alternation), and fits of a normal and of a Student-t distribution to
the values of W and of the residual. For all target modules: their values before and after.
"""

import argparse
import json
import logging
import time
from pathlib import Path
from typing import Any

import torch

from pissa_repro import checkpoint, decomposed, gpus, quantize
from pissa_repro.errors import run_stage, unknown
from pissa_repro.fetch import base_of, stored_model
from pissa_repro.gram import values
from pissa_repro.init import check_rank, generator, spectrum, start_module
from pissa_repro.naming import matching
from pissa_repro.progress import track
from pissa_repro.provenance import provenance
from pissa_repro.quant_error import rest_of
from pissa_repro.record import write_json
from pissa_repro.spectrum import Spectrum
from pissa_repro.studies.errors import start_spec

log = logging.getLogger(__name__)
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
        self.outside += matrix.numel() - inside.sum().item()
        self.sum += matrix.sum(dtype=torch.float64).item()
        self.squares += torch.linalg.vector_norm(matrix, dtype=torch.float64).item() ** 2

    def record(self) -> dict[str, Any]:
        """mean, std, n, limit, counts (BINS,), and how many values lie outside."""
        mean = self.sum / self.n
        std = (self.squares / self.n - mean**2) ** 0.5
        facts = {"n": self.n, "mean": mean, "std": std, "limit": self.limit, "outside": self.outside}
        return facts | {"counts": self.counts.tolist()}


def residual(found: Spectrum, rank: int) -> torch.Tensor:
    """PiSSA's residual W - U S Vh, float32 (out, in)."""
    top = found.principal(rank)
    return found.weight.addmm(top.U * top.S, top.Vh, alpha=-1)


def student_t(matrix: torch.Tensor, module: str) -> dict[str, float]:
    """df, loc and scale of the Student-t distribution most likely to give the values (a seeded sample of them)."""
    from scipy import stats

    flat = matrix.reshape(-1).cpu()
    chosen = torch.randint(flat.numel(), (min(SAMPLE, flat.numel()),), generator=generator(0, module))
    df, loc, scale = stats.t.fit(flat[chosen].double().numpy())
    return {"df": float(df), "loc": float(loc), "scale": float(scale), "sample": len(chosen)}


def one_matrix(name: str, found: Spectrum, rank: int, quant: str) -> dict[str, Any]:
    """What the single-matrix figures show of one weight."""
    weight, rest = found.weight, residual(found, rank)
    quantized = quantize.roundtrip(weight, quant)
    errors = {"qlora": weight - quantized}
    for method in ("loftq", "pissa"):
        spec = start_spec({"method": method, "quant": quant, "rank": rank, "alternations": 1})
        errors[method] = rest_of(weight, start_module(name, found, spec)[0], spec)
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
    found = Distribution(limit)
    found.add(matrix)
    return found.record()


def measure(folder: str, spec: dict[str, Any], kept: decomposed.Kept) -> dict[str, Any]:
    """The figures' numbers of a whole model. Raises UserError for an unknown module and a rank too high."""
    targets = spec["target_modules"] or checkpoint.projections(folder)
    shapes = checkpoint.shapes(folder, targets)
    for name, shape in shapes.items():
        check_rank(name, shape, spec["rank"])
    first = min(matching([f"{name}.weight" for name in shapes], targets[:1])[targets[0]], key=list(shapes).index)
    chosen = spec["module"] or first
    if chosen not in shapes:
        raise unknown("module", chosen, shapes, "config.studies.module")
    result: dict[str, Any] = {}
    everything: dict[str, Distribution] = {}
    for name, weight in track(checkpoint.targets(folder, targets), "spectra", len(shapes)):
        found = spectrum(name, weight.cuda() if torch.cuda.is_available() else weight, kept)
        if not everything:
            limit = 6 * weight.std().item()
            everything = {key: Distribution(limit) for key in ("W", "residual")}
        everything["W"].add(found.weight)
        everything["residual"].add(residual(found, spec["rank"]))
        if name == chosen:
            result = one_matrix(name, found, spec["rank"], spec["quant"])
    return result | {"all_modules": {key: one.record() for key, one in everything.items()}, "modules": len(shapes)}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", required=True, type=json.loads, help="canonical JSON of the spectra stage")
    parser.add_argument("--model", required=True, help="record of the fetched model")
    parser.add_argument("--out", required=True, type=Path, help="the record to write")
    parser.add_argument("--scratch", type=Path, default=decomposed.FOLDER, help="where decompositions are kept")
    gpus.add_argument(parser)
    args = parser.parse_args(argv)
    gpus.take(args.gpus)
    started = time.perf_counter()
    model = stored_model(args.model)
    result = measure(model["path"], args.spec, decomposed.Kept(args.scratch, model["fingerprint"]))
    write_json(args.out, {"spec": args.spec, "base": base_of(model), **result, "provenance": provenance(started)})
    log.info("%s and the values of %d modules", result["module"], result["modules"])


if __name__ == "__main__":
    run_stage(main)
