"""Measure the quantization error of factors: nuclear and Frobenius norms, per module and per type.

In the workflow:
    python -m pissa_repro.stages.quant_error --spec "$SPEC" --model MODEL.json --factors DIR --out quant_error.json
By hand, on a folder or a hub id, for starts made on the way:
    python -m pissa_repro.stages.quant_error --model DIR --method pissa --quant nf4 --rank 16 64 --out quant_error.json
After training, and on other bases than the one it was trained on (pitfall 24, docs/pitfalls.md):
    python -m pissa_repro.stages.quant_error --model DIR --factors INIT --trained TRAINED \
        --evaluated-as none nf4 --out FILE

error = nuc(W - (base + sBA)), reduction = 100 * (1 - error / nuc(W - quantize(W))) percent, per
module; averaged over the layers of a projection type; AVG is the mean over types (paper, section 4,
equation 8; docs/paper_facts.md 3.3).
"""

import argparse
import json
import logging
import time
from pathlib import Path
from typing import Any

from pissa_repro import quantizers
from pissa_repro.model import factors
from pissa_repro.runtime import gpus
from pissa_repro.runtime.errors import UserError, run_stage
from pissa_repro.runtime.provenance import provenance
from pissa_repro.runtime.record import read_json, write_json
from pissa_repro.sources.fetched import base_of, stored_model
from pissa_repro.stages.options import add_by_hand, add_gpus
from pissa_repro.starts import byhand, estimate
from pissa_repro.starts.error import Error, measure, measure_starts, summary
from pissa_repro.starts.kept import Kept

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", type=json.loads, help="canonical JSON of the quant_error stage, or options by hand")
    parser.add_argument("--model", required=True, help="record of a fetched model; by hand, a folder or a hub id")
    parser.add_argument("--factors", type=Path, help="folder of initial factors")
    parser.add_argument("--trained", type=Path, help="folder of factors trained from them")
    parser.add_argument("--evaluated-as", nargs="+", help="quantizations of the base to measure trained factors on")
    parser.add_argument("--out", required=True, type=Path, help="the record to write")
    add_by_hand(parser)
    add_gpus(parser)
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
        quantizers.find(quant, "--evaluated-as" if args.evaluated_as else "--quant")
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
    estimate.announce(estimate.error_cost(model["path"], specs))
    found = measure_starts(model["path"], specs, Kept(args.scratch, model["fingerprint"]))
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
