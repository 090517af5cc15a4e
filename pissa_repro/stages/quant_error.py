"""Measure the quantization error of factors: nuclear and Frobenius norms, per module and per type.

python -m pissa_repro.stages.quant_error --spec "$SPEC" --model MODEL.json --factors DIR --out quant_error.json
python -m pissa_repro.stages.quant_error --spec "$SPEC" --model MODEL.json --factors INIT --trained TRAINED --out FILE

The second measures after training, on the bases that the spec names (pitfall 24, docs/pitfalls.md).

error = nuc(W - (base + sBA)), reduction = 100 * (1 - error / nuc(W - quantize(W))) percent, per
module; averaged over the layers of a projection type; AVG is the mean over types (paper, section 4,
equation 8; docs/paper_facts.md 3.3).
"""

import time
from pathlib import Path

from pissa_repro.runtime import gpus
from pissa_repro.runtime.errors import run_stage
from pissa_repro.runtime.provenance import provenance
from pissa_repro.runtime.record import write_json
from pissa_repro.sources.fetched import base_of, stored_model
from pissa_repro.stages.options import stage_parser
from pissa_repro.starts.error import measure_stored
from pissa_repro.training.cell import verified


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(
        __doc__, "spec", "model", "gpus", factors="folder of initial factors", out="the record to write"
    )
    parser.add_argument("--trained", type=Path, help="folder of factors trained from them")
    args = parser.parse_args(argv)
    gpus.take(args.gpus)
    started = time.perf_counter()
    model, start = stored_model(args.model), args.spec["init"]
    quants = args.spec.get("evaluated_as") or [start["quant"]]
    content = {"trained_sha256": verified(args.trained, args.factors)} if args.trained else {}
    errors = measure_stored(model, args.factors, args.trained, quants)
    facts = {"evaluated_as": errors} if args.trained else errors[start["quant"]]
    record = {"spec": args.spec, "base": base_of(model), **content, **facts}
    write_json(args.out, {**record, "provenance": provenance(started)})


if __name__ == "__main__":
    run_stage(main)
