"""How far a training has moved each module: |dW| / |W|, and the singular values of dW.

python -m pissa_repro.stages.study_updates --spec "$SPEC" --model MODEL.json --init INIT --trained TRAINED --out FILE

dW is what the trained weight is more than it was at the start of the training: no quantization error is in it.
One weight is in memory at a time. The method `full` has no --init. Of a training that diverged there is nothing to
measure: the record has its step (`diverged`) and no modules.
"""

import logging
import time
from typing import Any

from pissa_repro.runtime import gpus
from pissa_repro.runtime.errors import run_stage
from pissa_repro.runtime.provenance import provenance
from pissa_repro.runtime.record import write_json
from pissa_repro.sources.fetched import base_of, stored_model
from pissa_repro.stages.options import stage_parser
from pissa_repro.studies.updates import measure_updates
from pissa_repro.training import diverged
from pissa_repro.training.cell import verified

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    files = {"trained": "folder that the training has left", "out": "the record to write"}
    args = stage_parser(__doc__, "spec", "model", "init", "gpus", **files).parse_args(argv)
    gpus.take(args.gpus)
    started, model = time.perf_counter(), stored_model(args.model)
    content = verified(args.trained, args.init)
    lost = diverged.step_in(args.trained)
    found: dict[str, Any] = {"diverged": lost} if lost else measure_updates(model, args.init, args.trained)
    record = {"spec": args.spec, "base": base_of(model), "trained_sha256": content, **found}
    write_json(args.out, {**record, "provenance": provenance(started)})
    if lost:
        log.info("the training diverged at step %d, nothing to measure", lost)
    else:
        log.info("%d modules, |dW| / |W| %.3g on average", len(found["modules"]), found["mean"])


if __name__ == "__main__":
    run_stage(main)
