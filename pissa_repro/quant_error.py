"""Measure the quantization error of factors: nuclear and Frobenius norms, per module and per type.

In the workflow:
    python -m pissa_repro.quant_error --spec "$SPEC" --model MODEL.json --factors DIR --out quant_error.json
By hand, on a folder or a hub id, for starts made on the way:
    python -m pissa_repro.quant_error --model DIR --method pissa --quant nf4 --rank 16 64 --out quant_error.json
After training, and on other bases than the one it was trained on (trap 24):
    python -m pissa_repro.quant_error --model DIR --factors INIT --trained TRAINED --evaluated-as none nf4 --out FILE

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
from typing import Any

import torch

from pissa_repro import byhand, checkpoint, decomposed, factors, gpus, quantize
from pissa_repro.errors import UserError, run_stage, unknown
from pissa_repro.fetch import base_of, stored_model
from pissa_repro.gram import frobenius, nuclear
from pissa_repro.init import Spec, check_rank, spectrum, start_module
from pissa_repro.naming import types
from pissa_repro.progress import track
from pissa_repro.provenance import provenance
from pissa_repro.record import read_json, write_json

log = logging.getLogger(__name__)
Error = dict[str, float]


def error(rest: torch.Tensor) -> Error:
    """Nuclear and Frobenius norm of what is left of a weight (out, in), float32."""
    return {"nuclear": nuclear(rest), "frobenius": frobenius(rest).item()}


def plain_error(weight: torch.Tensor, quant: str) -> Error:
    """The error of quantizing a weight (out, in) as it is: what QLoRA starts from."""
    return error(weight - quantize.roundtrip(weight, quant))


def remaining(
    weight: torch.Tensor, offset: torch.Tensor | None, a: torch.Tensor, b: torch.Tensor, scaling: float, quant: str
) -> torch.Tensor:
    """W - (quantize(W - offset) + s * B @ A), float32 (out, in)."""
    base = quantize.base_weight(weight, offset, quant)
    return torch.sub(weight, base, out=base if base is not weight else None).sub_(factors.product(a, b, scaling))


def compared(found: Error, plain: Error) -> Error:
    """An error beside that of plain quantization, and the reduction in percent."""
    reduction = 100 * (1 - found["nuclear"] / plain["nuclear"]) if plain["nuclear"] else 0.0
    return {**found, **{f"{key}_plain": value for key, value in plain.items()}, "reduction": reduction}


def by_type(modules: dict[str, Error]) -> Error:
    """Mean reduction in percent for each projection type, and "avg", the mean over types."""
    groups = defaultdict(list)
    for name, kind in types(modules).items():
        groups[kind].append(modules[name]["reduction"])
    means = {kind: sum(values) / len(values) for kind, values in groups.items()}
    return {**means, "avg": sum(means.values()) / len(means)}


def measure(
    folder: str, made: factors.Factors, spec: Spec, quant: str, trained: factors.Factors | None = None
) -> dict[str, Error]:
    """The errors of every target module: of the start `made`, or of trained factors on the start's base.

    quant: of the base that they are evaluated on. Without quantization there is nothing to compare
    with: the errors of the trained factors then are what training has changed.
    """
    found, last = {}, trained or made
    for name, weight in track(_weights(folder, spec["target_modules"]), "quant_error", len(made.A)):
        offset = made.offset_product(name)
        offset = None if offset is None else offset.to(weight)
        rest = remaining(weight, offset, last.A[name].to(weight), last.B[name].to(weight), last.scaling, quant)
        found[name] = error(rest) if quant == "none" else compared(error(rest), plain_error(weight, quant))
    return found


def measure_starts(folder: str, specs: list[Spec], kept: decomposed.Kept) -> list[dict[str, Error]]:
    """The errors of starts that are made on the way and not stored; each weight is read and decomposed once."""
    found: list[dict[str, Error]] = [{} for _ in specs]
    targets = specs[0]["target_modules"]
    shapes = checkpoint.shapes(folder, targets)
    for name, shape in shapes.items():
        for spec in specs:
            check_rank(name, shape, spec["rank"])
    for name, weight in track(_weights(folder, targets), "quant_error", len(shapes)):
        whole, plain = spectrum(name, weight, kept), plain_error(weight, specs[0]["quant"])
        for spec, errors in zip(specs, found, strict=True):
            start, _ = start_module(name, whole, spec)
            errors[name] = compared(error(rest_of(weight, start, spec)), plain)
    return found


def rest_of(weight: torch.Tensor, start: Any, spec: Spec) -> torch.Tensor:
    """W - (base + sBA) of a start of one weight (methods.Start)."""
    scaling = factors.scaling(spec["alpha"], spec["rank"], spec["rslora"])
    taken = (start.A, start.B) if start.offset == "start" else start.offset
    offset = None if taken is None else factors.product(*taken, scaling)
    return remaining(weight, offset, start.A, start.B, scaling, spec["quant"])


def _weights(folder: str, targets: list[str]):
    for name, weight in checkpoint.targets(folder, targets):
        yield name, weight.cuda() if torch.cuda.is_available() else weight


def summary(modules: dict[str, Error]) -> dict[str, Any]:
    """What the record says of all modules: sums of the errors, and the reductions by type."""
    keys = [key for key in next(iter(modules.values())) if key.startswith(("nuclear", "frobenius"))]
    total = {key: sum(m[key] for m in modules.values()) for key in keys}
    return {"total": total, "reduction": by_type(modules) if "nuclear_plain" in total else None, "modules": modules}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", type=json.loads, help="canonical JSON of the quant_error stage, or options by hand")
    parser.add_argument("--model", required=True, help="record of a fetched model; by hand, a folder or a hub id")
    parser.add_argument("--factors", type=Path, help="folder of initial factors")
    parser.add_argument("--trained", type=Path, help="folder of factors trained from them")
    parser.add_argument("--evaluated-as", nargs="+", help="quantizations of the base to measure trained factors on")
    parser.add_argument("--out", required=True, type=Path, help="the record to write")
    byhand.add_arguments(parser)
    gpus.add_argument(parser)
    args = parser.parse_args(argv)
    gpus.take(args.gpus)
    started = time.perf_counter()
    model = stored_model(args.model) if args.spec else byhand.model(args.model, args.revision)
    record = {"base": base_of(model), **(_stored(args, model) if args.factors else _by_hand(args, model))}
    write_json(args.out, {**record, "provenance": provenance(started)})


def _stored(args: argparse.Namespace, model: dict[str, Any]) -> dict[str, Any]:
    """The errors of factors in a folder: at the start, or after training on each base that is asked for."""
    made = factors.load(args.factors, model)
    spec = args.spec or {"init": read_json(args.factors / "init.json")["spec"]}
    quants = args.evaluated_as or spec.get("evaluated_as") or [spec["init"]["quant"]]
    for quant in quants:
        if quant not in quantize.QUANTIZERS:
            raise unknown("quant", quant, quantize.QUANTIZERS, "--evaluated-as" if args.evaluated_as else "--quant")
    if not args.trained:
        _refuse_plain(quants)
    trained = factors.load_trained(args.trained, made) if args.trained else None
    found = {quant: summary(measure(model["path"], made, spec["init"], quant, trained)) for quant in quants}
    for quant, part in found.items():
        log.info("base %s: nuclear error %.6g%s", quant, part["total"]["nuclear"], _percent(part["reduction"]))
    return {"spec": spec, **({"evaluated_as": found} if args.trained or args.evaluated_as else found[quants[0]])}


def _by_hand(args: argparse.Namespace, model: dict[str, Any]) -> dict[str, Any]:
    """The errors of starts for the options given, one a rank."""
    if args.trained or args.evaluated_as:
        raise UserError("--trained and --evaluated-as: give --factors too, the start that was trained.")
    specs = byhand.init_specs(args, model["path"])
    _refuse_plain([args.quant])
    byhand.announce(byhand.error_cost(model["path"], specs))
    found = measure_starts(model["path"], specs, decomposed.Kept(args.scratch, model["fingerprint"]))
    starts = [{"spec": spec, **summary(modules)} for spec, modules in zip(specs, found, strict=True)]
    for start in starts:
        kinds = " ".join(f"{kind} {value:.2f}" for kind, value in start["reduction"].items() if kind != "avg")
        log.info("rank %d: error%s (%s)", start["spec"]["rank"], _percent(start["reduction"]), kinds)
    return {"starts": starts}


def _percent(reduction: Error | None) -> str:
    return "" if reduction is None else f" reduction {reduction['avg']:.2f} %"


def _refuse_plain(quants: list[str]) -> None:
    if "none" in quants:
        raise UserError("quant 'none' has no quantization error; measure a quantized cell (--quant nf4).")


if __name__ == "__main__":
    run_stage(main)
