"""Take in an adapter that was trained elsewhere, so that it is scored like a trained cell.

python -m pissa_repro.stages.adopt --spec "$SPEC" --source '{"adapter": "DIR", "init": "DIR"}' --model MODEL.json \
    --trained DIR --record train.json

The source says where the adapter lies, and its start ("init") or the residual with the start inside ("residual").
Checks that it belongs to the base, and writes the folder that is scored and the record, which holds what is known of
the training: its rank and parameters; no losses, no time.
"""

import json
import logging
import time

from pissa_repro.adapters.adopt import asked_of, examine, write
from pissa_repro.plan.adopted import ELSEWHERE
from pissa_repro.runtime.errors import run_stage
from pissa_repro.runtime.provenance import provenance
from pissa_repro.runtime.record import content, write_json
from pissa_repro.runtime.record_types import AdoptRecord
from pissa_repro.sources.fetched import base_of, stored_model
from pissa_repro.stages.options import stage_parser

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__, "spec", "model", trained="folder to write", record="the record to write")
    parser.add_argument("--source", required=True, type=json.loads, help="JSON: adapter, and init or residual; trust")
    args = parser.parse_args(argv)
    started, stored = time.perf_counter(), stored_model(args.model)
    asked = asked_of(args.source, args.spec)
    found = examine(asked, stored)
    for note in found.facts["notes"]:
        log.info("%s", note)
    write(asked, found, stored, args.trained)
    record = AdoptRecord(
        **found.facts,
        spec=args.spec,
        base=base_of(stored),
        trained=ELSEWHERE,
        start_sha256=None,
        trained_sha256=content(args.trained),
        provenance=provenance(started),
    )
    write_json(args.record, record)


if __name__ == "__main__":
    run_stage(main)
