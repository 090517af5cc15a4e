"""Measure the quantization error of factors: nuclear, Frobenius and weighted norms, per module and per type.

python -m pissa_repro.stages.quant_error --spec "$SPEC" --model MODEL.json --factors DIR --out quant_error.json
python -m pissa_repro.stages.quant_error --spec "$SPEC" --model MODEL.json --factors INIT --trained TRAINED --out FILE

The second measures after training, on the bases that the spec names (pitfall 24, docs/pitfalls.md); where the training
diverged there is nothing to measure, and the record has its step (`diverged`) instead. With
--statistics DIR --data ROWS.jsonl, the covariances that the spec's `weighed_by` names and the rows behind them, the
first also gives the errors that they weigh, and `divergence`: KL(base model || start) in nats per token.

error = nuc(W - (base + sBA)), reduction = 100 * (1 - error / nuc(W - quantize(W))) percent, per
module; averaged over the layers of a projection type; AVG is the mean over types (paper, section 4,
equation 8; docs/paper_facts.md 3.3).
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pissa_repro.runtime import gpus
from pissa_repro.runtime.errors import run_stage
from pissa_repro.runtime.provenance import provenance
from pissa_repro.runtime.record import write_json
from pissa_repro.sources.fetched import base_of, stored_model
from pissa_repro.stages.options import stage_parser
from pissa_repro.starts import weighing
from pissa_repro.starts.error import measure_stored
from pissa_repro.training import diverged
from pissa_repro.training.cell import verified

if TYPE_CHECKING:
    from collections.abc import Mapping


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(
        __doc__, "spec", "model", "gpus", factors="folder of initial factors", out="the record to write"
    )
    parser.add_argument("--trained", type=Path, help="folder of factors trained from them")
    parser.add_argument("--statistics", type=Path, nargs="?", help="folder of what the errors are weighed by")
    parser.add_argument("--data", type=Path, nargs="?", help="JSON lines of the rows behind it")
    args = parser.parse_args(argv)
    gpus.take(args.gpus)
    started = time.perf_counter()
    model, start = stored_model(args.model), args.spec["init"]
    lost = diverged.step_in(args.trained) if args.trained else None
    content = {"trained_sha256": verified(args.trained, args.factors)} if args.trained else {}
    if lost:
        facts: Mapping[str, Any] = {"diverged": lost}
    else:
        quants = args.spec.get("evaluated_as") or [start["quant"]]
        known = weighing.known(model, args.statistics, args.spec.get("weighed_by"))
        errors = measure_stored(model, args.factors, args.trained, quants, known)
        facts = {"evaluated_as": errors} if args.trained else errors[start["quant"]]
        if known and args.data:
            content |= weighing.compared(model, args.factors, start["quant"], known, args.data)
    record = {"spec": args.spec, "base": base_of(model), **content, **facts}
    write_json(args.out, {**record, "provenance": provenance(started)})


if __name__ == "__main__":
    run_stage(main)
