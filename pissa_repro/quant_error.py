"""Measure the quantization error of initial factors: nuclear norms, per module and per type.

python -m pissa_repro.quant_error --spec "$SPEC" --model MODEL.json --factors DIR --out quant_error.json

error = nuc(W - (base + sBA)), reduction = 100 * (1 - error / nuc(W - quantize(W))) percent, per
module; averaged over the layers of a projection type; AVG is the mean over types (paper, section 4,
equation 8; paper_facts.md 3.3).
"""

import argparse
import json
import logging
import time
from collections import defaultdict
from pathlib import Path

import torch

from pissa_repro import checkpoint, factors, gpus, quantize
from pissa_repro.errors import UserError, run_stage
from pissa_repro.fetch import base_of, stored_model
from pissa_repro.progress import track
from pissa_repro.provenance import provenance
from pissa_repro.record import write_json

log = logging.getLogger(__name__)


def nuclear(matrix: torch.Tensor) -> float:
    """Sum of the singular values of a matrix (out, in), in float64 from float32 values."""
    return torch.linalg.svdvals(matrix).double().sum().item()


def module_error(weight: torch.Tensor, made: factors.Factors, name: str, quant: str) -> dict[str, float]:
    """Nuclear and Frobenius error of one module, of plain quantization, and the reduction in percent."""
    a, b = made.A[name].to(weight), made.B[name].to(weight)
    offset = made.offset_product(name)
    base = quantize.base_weight(weight, None if offset is None else offset.to(weight), quant)
    rest = weight - base - factors.product(a, b, made.scaling)
    plain_rest = weight - quantize.roundtrip(weight, quant)
    error, plain = nuclear(rest), nuclear(plain_rest)
    return {
        "nuclear": error,
        "nuclear_plain": plain,
        "reduction": 100 * (1 - error / plain),
        "frobenius": rest.norm().item(),
        "frobenius_plain": plain_rest.norm().item(),
    }


def by_type(modules: dict[str, dict[str, float]]) -> dict[str, float]:
    """Mean reduction in percent for each projection type, and "avg", the mean over types."""
    groups = defaultdict(list)
    for name, facts in modules.items():
        groups[name.rsplit(".", 1)[-1]].append(facts["reduction"])
    means = {kind: sum(values) / len(values) for kind, values in groups.items()}
    return {**means, "avg": sum(means.values()) / len(means)}


def measure(folder: str, made: factors.Factors, spec: dict) -> dict[str, dict[str, float]]:
    """The errors of every target module of a model folder."""
    weights = checkpoint.targets(folder, spec["target_modules"])
    weights = ((n, w.cuda() if torch.cuda.is_available() else w) for n, w in weights)
    return {
        name: module_error(weight, made, name, spec["quant"])
        for name, weight in track(weights, "quant_error", len(made.A))
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", required=True, type=json.loads, help="canonical JSON of the quant_error stage")
    parser.add_argument("--model", required=True, help="record of the fetched model")
    parser.add_argument("--factors", required=True, type=Path, help="folder of factors")
    parser.add_argument("--out", required=True, type=Path, help="the record to write")
    gpus.add_argument(parser)
    args = parser.parse_args(argv)
    gpus.take(args.gpus)
    started = time.perf_counter()
    if args.spec["init"]["quant"] == "none":
        raise UserError("quant 'none' has no quantization error; measure a quantized cell.")
    model = stored_model(args.model)
    modules = measure(model["path"], factors.load(args.factors, model), args.spec["init"])
    record = {
        "spec": args.spec,
        "base": base_of(model),
        "total": {key: sum(m[key] for m in modules.values()) for key in ("nuclear", "nuclear_plain")},
        "reduction": by_type(modules),
        "modules": modules,
        "double_quantization": False,
    }
    write_json(args.out, {**record, "provenance": provenance(started)})
    log.info("error reduction %.2f %%", record["reduction"]["avg"])


if __name__ == "__main__":
    run_stage(main)
