"""Check a model, its tokenizer and all rows that it will see, before anything costly is done with them.

python -m pissa_repro.stages.admit --spec "$SPEC" --model MODEL.json --results results --out admitted.json

Reads the headers of the weights, the configs, the tokenizer and the rows; builds the model without weights. What cannot
work ends here with one message. The record says what was checked, and what will be cut or left out.
"""

import logging
import time

from pissa_repro.admission.admit import admit, counts
from pissa_repro.runtime.errors import run_stage
from pissa_repro.runtime.provenance import provenance
from pissa_repro.runtime.record import attempt, write_json
from pissa_repro.sources.fetched import base_of, stored_model
from pissa_repro.stages.options import stage_parser

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__, "spec", "model", "results", out="the record to write")
    args = parser.parse_args(argv)
    started = time.perf_counter()
    with attempt(args.out):
        stored = stored_model(args.model)
        found = admit(stored["path"], args.spec, args.results)
        write_json(args.out, {"spec": args.spec, "base": base_of(stored), **found, "provenance": provenance(started)})
    log.info("%s: checked %s", stored["name"], ", ".join(f"{number} {name}" for name, number in counts(found).items()))


if __name__ == "__main__":
    run_stage(main)
