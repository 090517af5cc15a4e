"""Singular values and value distributions of weights and residuals: Figures 3, 9, 10 and 11 of the paper.

python -m pissa_repro.stages.study_spectra --spec "$SPEC" --model MODEL.json --out spectra.json

For one matrix: all singular values of W, of PiSSA's residual, of quantize(W), and of the errors of
QLoRA, LoftQ and QPiSSA (one alternation), and fits of a normal and of a Student-t distribution to
the values of W and of the residual. For all target modules: their values before and after.
"""

import argparse
import json
import logging
import time
from pathlib import Path

from pissa_repro.runtime import gpus
from pissa_repro.runtime.errors import run_stage
from pissa_repro.runtime.provenance import provenance
from pissa_repro.runtime.record import write_json
from pissa_repro.sources.fetched import base_of, stored_model
from pissa_repro.stages.options import add_gpus
from pissa_repro.starts.kept import FOLDER, Kept
from pissa_repro.studies.spectra import measure

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", required=True, type=json.loads, help="canonical JSON of the spectra stage")
    parser.add_argument("--model", required=True, help="record of the fetched model")
    parser.add_argument("--out", required=True, type=Path, help="the record to write")
    parser.add_argument("--scratch", type=Path, default=FOLDER, help="where decompositions are kept")
    add_gpus(parser)
    args = parser.parse_args(argv)
    gpus.take(args.gpus)
    started = time.perf_counter()
    model = stored_model(args.model)
    result = measure(model["path"], args.spec, Kept(args.scratch, model["fingerprint"]))
    write_json(args.out, {"spec": args.spec, "base": base_of(model), **result, "provenance": provenance(started)})
    log.info("%s and the values of %d modules", result["module"], result["modules"])


if __name__ == "__main__":
    run_stage(main)
