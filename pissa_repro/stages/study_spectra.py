"""Singular values and value distributions of weights and residuals: Figures 3, 9, 10 and 11 of the paper.

python -m pissa_repro.stages.study_spectra --spec "$SPEC" --model MODEL.json --out spectra.json

For one matrix: all singular values of W, of PiSSA's residual, of quantize(W), and of the errors of
QLoRA, LoftQ and QPiSSA (one alternation), and fits of a normal and of a Student-t distribution to
the values of W and of the residual. For all target modules: their values before and after.
"""

import logging
import time

from pissa_repro.runtime import gpus
from pissa_repro.runtime.errors import run_stage
from pissa_repro.runtime.provenance import provenance
from pissa_repro.runtime.record import write_json
from pissa_repro.sources.fetched import base_of, stored_model
from pissa_repro.stages.options import stage_parser
from pissa_repro.starts.kept import Kept
from pissa_repro.studies.spectra import measure_spectra

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(__doc__, "spec", "model", "scratch", "gpus", out="the record to write")
    args = parser.parse_args(argv)
    gpus.take(args.gpus)
    started = time.perf_counter()
    model = stored_model(args.model)
    result = measure_spectra(model["path"], args.spec, Kept(args.scratch, model["fingerprint"]))
    write_json(args.out, {"spec": args.spec, "base": base_of(model), **result, "provenance": provenance(started)})
    log.info("%s and the values of %d modules", result["module"], result["modules"])


if __name__ == "__main__":
    run_stage(main)
