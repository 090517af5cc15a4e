"""Train the toy of the paper's Figure 2a: a two-layer network learns odd digits, then even ones by each method.

python -m pissa_repro.stages.study_toy --spec "$SPEC" --out toy.json
python -m pissa_repro.stages.study_toy --spec "$SPEC" --digits train-images-idx3-ubyte.gz train-labels-idx1-ubyte.gz \
    --out toy.json

Without files, the 8 x 8 digits of scikit-learn. Losses of every epoch and seed, as released and as printed, and the
paths of the first seed on the plane of full fine-tuning's two principal directions.
"""

import logging
import time
from pathlib import Path

from pissa_repro.runtime.errors import run_stage
from pissa_repro.runtime.provenance import provenance
from pissa_repro.runtime.record import write_json
from pissa_repro.stages.options import stage_parser
from pissa_repro.studies import digits
from pissa_repro.studies.toy import measure_toy

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__, "spec", out="the record to write")
    parser.add_argument("--digits", type=Path, nargs="*", default=[], help="MNIST's images and labels")
    args = parser.parse_args(argv)
    started = time.perf_counter()
    result = measure_toy(digits.read(args.digits), args.spec)
    write_json(args.out, {"spec": args.spec, **result, "provenance": provenance(started)})
    log.info("%d digits, %d seeds", result["rows"], args.spec["seeds"])


if __name__ == "__main__":
    run_stage(main)
