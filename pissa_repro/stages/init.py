"""Make a method's initial factors from a model's weights.

python -m pissa_repro.stages.init --spec "$SPEC" --model results/fetch/models/mini-llama.json --out DIR

Reads the target weights one by one from the safetensors; the model is never built. Writes a PEFT
adapter folder and init.json: start-up equality, norms of A, B and of what was taken out of W, and
the accuracy of the decomposition.
"""

import time
from pathlib import Path

from pissa_repro.runtime import gpus
from pissa_repro.runtime.errors import run_stage
from pissa_repro.runtime.lock import alone
from pissa_repro.sources.fetched import base_of, stored_model
from pissa_repro.stages.options import stage_parser
from pissa_repro.starts.kept import Kept
from pissa_repro.starts.make import start_model, write
from pissa_repro.starts.statistics import Known


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__, "spec", "model", "scratch", "gpus", out="folder to write")
    parser.add_argument("--statistics", nargs="*", type=Path, default=[], help="folders of what the start has to know")
    args = parser.parse_args(argv)
    with alone(args.out, "writing"):
        gpus.take(args.gpus)
        started = time.perf_counter()
        model = stored_model(args.model)
        known = Known(args.statistics, model["fingerprint"])
        known.check(args.spec.get("statistics", {}))
        (made,) = start_model(model["path"], [args.spec], Kept(args.scratch, model["fingerprint"]), known)
        write(args.out, args.spec, base_of(model), made, started, known.data_sha256)


if __name__ == "__main__":
    run_stage(main)
