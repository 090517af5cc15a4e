"""Make a method's initial factors from a model's weights.

python -m pissa_repro.init --spec "$SPEC" --model results/fetch/models/mini-llama.json --out DIR

Reads the target weights one by one from the safetensors; the model is never built. Writes a PEFT
adapter folder and init.json: start-up equality, norms of A, B and of what was taken out of W.
"""

import argparse
import hashlib
import json
import logging
import time
from pathlib import Path
from typing import Any

import torch

from pissa_repro import checkpoint, factors, gpus, methods, quantize
from pissa_repro.errors import UserError, run_stage
from pissa_repro.fetch import base_of, stored_model
from pissa_repro.progress import track
from pissa_repro.provenance import provenance
from pissa_repro.record import atomic_folder, write_json

log = logging.getLogger(__name__)
EQUALITY = 1e-5  # |W - (base + sBA)| / |W| allowed on a plain base: float32 rounding, with room


def generator(seed: int, module: str) -> torch.Generator:
    """Random numbers of one module: the same in any order of modules and on any machine."""
    digest = hashlib.sha256(f"{seed}/{module}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def start_module(name: str, weight: torch.Tensor, spec: dict[str, Any]) -> tuple[methods.Start, dict[str, float]]:
    """Factors of one weight (out, in), and what the record says of them.

    Raises UserError for a rank above the weight's smaller side, and when base + sBA misses W.
    """
    rank, quant = spec["rank"], spec["quant"]
    if rank > min(weight.shape):
        raise UserError(f"config.sweep.ranks: {rank} is above the smaller side of {name} {tuple(weight.shape)}.")
    scaling = factors.scaling(spec["alpha"], rank, spec["rslora"])
    setting = methods.Setting(
        rank, scaling, lambda w: quantize.roundtrip(w, quant), generator(spec["seed"], name), spec["options"]
    )
    start = methods.load(spec["method"]).start(weight, setting)
    taken = (start.A, start.B) if start.offset == "start" else start.offset
    offset = None if taken is None else factors.product(*taken, scaling)
    base = quantize.base_weight(weight, offset, quant)
    size = weight.norm().item()
    facts = {
        "equality_error": (weight - base - factors.product(start.A, start.B, scaling)).norm().item() / size,
        "norm_A": start.A.norm().item(),
        "norm_B": start.B.norm().item(),
        "norm_offset": 0.0 if offset is None else offset.norm().item() / size,
    }
    if quant == "none" and facts["equality_error"] > EQUALITY:
        raise UserError(f"{name}: base + sBA misses W by {facts['equality_error']:.1e} of its norm (limit {EQUALITY}).")
    return start, facts


def start_model(folder: str, spec: dict[str, Any]) -> tuple[factors.Factors, dict[str, dict[str, float]]]:
    """Factors of every target module of a model folder, and their facts by module."""
    collected = factors.Factors({}, {}, None, spec["rank"], spec["alpha"], spec["rslora"], {}, {})
    facts = {}
    modules = list(checkpoint.target_names(folder, spec["target_modules"]))
    weights = checkpoint.targets(folder, spec["target_modules"])
    for name, weight in track(weights, f"init {spec['method']}", len(modules)):
        weight = weight.cuda() if torch.cuda.is_available() else weight
        start, facts[name] = start_module(name, weight, spec)
        collected.A[name], collected.B[name] = start.A.cpu(), start.B.cpu()
        if isinstance(start.offset, tuple):
            collected.offset = "own"
            collected.offset_A[name], collected.offset_B[name] = (side.cpu() for side in start.offset)
        else:
            collected.offset = start.offset
    return collected, facts


def summary(facts: dict[str, dict[str, float]]) -> dict[str, float]:
    """The worst equality error and the mean norms over modules (traps 10 and 11)."""
    mean = {key: sum(f[key] for f in facts.values()) / len(facts) for key in ("norm_A", "norm_B", "norm_offset")}
    return {"equality_error": max(f["equality_error"] for f in facts.values()), **mean}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", required=True, type=json.loads, help="canonical JSON of the init stage")
    parser.add_argument("--model", required=True, help="record of the fetched model")
    parser.add_argument("--out", required=True, type=Path, help="folder to write")
    gpus.add_argument(parser)
    args = parser.parse_args(argv)
    gpus.take(args.gpus)
    started = time.perf_counter()
    model = stored_model(args.model)
    made, facts = start_model(model["path"], args.spec)
    base = base_of(model)
    record = {"spec": args.spec, "base": base, **summary(facts), "modules": facts, "dtype": "float32"}
    with atomic_folder(args.out) as folder:
        factors.save(folder, made, base)
        write_json(folder / "init.json", {**record, "provenance": provenance(started)})
    log.info("%d modules, equality error %.1e", len(facts), record["equality_error"])


if __name__ == "__main__":
    run_stage(main)
