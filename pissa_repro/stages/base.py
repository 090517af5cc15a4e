"""Put the base model as it is in the place of a trained cell, so that it is scored by the same stages.

python -m pissa_repro.stages.base --spec "$SPEC" --model MODEL.json --trained DIR --record train.json

Nothing is trained and no weight is written: scoring makes the base from the model's own files, as the spec says. The
folder holds no more than these words, and the record which weights they are of.
"""

import logging
import time

from pissa_repro.plan.bases import UNTRAINED
from pissa_repro.runtime.errors import run_stage
from pissa_repro.runtime.provenance import provenance
from pissa_repro.runtime.record import atomic_folder, content, write_json
from pissa_repro.runtime.record_types import BaseRecord
from pissa_repro.sources.fetched import base_of, stored_model
from pissa_repro.stages.options import stage_parser

log = logging.getLogger(__name__)
FILE = "untrained.json"  # what the folder holds


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__, "spec", "model", trained="folder to write", record="the record to write")
    args = parser.parse_args(argv)
    started, stored = time.perf_counter(), stored_model(args.model)
    with atomic_folder(args.trained) as folder:
        write_json(folder / FILE, {"trained": UNTRAINED, "quant": args.spec["quant"]})
    record = BaseRecord(
        spec=args.spec,
        base=base_of(stored),
        trained=UNTRAINED,
        trainable_parameters=0,
        start_sha256=None,
        trained_sha256=content(args.trained),
        provenance=provenance(started),
    )
    write_json(args.record, record)
    log.info("%s, quantization %s: %s", stored["name"], args.spec["quant"], UNTRAINED)


if __name__ == "__main__":
    run_stage(main)
