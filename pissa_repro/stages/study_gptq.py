"""GPTQ of W (QLoRA) against GPTQ of PiSSA's residual (QPiSSA): the third row of the paper's Table 9.

python -m pissa_repro.stages.study_gptq --spec "$SPEC" --model MODEL.json --calibration ROWS.jsonl --text ROWS.jsonl \
    --out gptq.json

Needs the extra `gptq`. Calibrates on one dataset, measures perplexity per token on another, by lm-eval;
the nuclear norms are recorded too, but GPTQ does not minimise them. Memory: two float32 models, and
the Hessians of as many modules as fit LIMIT; each further group of modules costs one more pass.
"""

import logging
import time

from pissa_repro.runtime import gpus
from pissa_repro.runtime.errors import run_stage
from pissa_repro.runtime.provenance import provenance
from pissa_repro.runtime.record import read_lines, sha256, write_json
from pissa_repro.sources.fetched import base_of, stored_model
from pissa_repro.stages.options import stage_parser
from pissa_repro.starts.kept import Kept
from pissa_repro.studies.gptq import measure_perplexities

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(
        __doc__, "spec", "model", "scratch", "gpus",
        calibration="rows to calibrate on", text="rows to measure perplexity on", out="the record to write",
    )  # fmt: skip
    args = parser.parse_args(argv)
    gpus.take(args.gpus)
    started = time.perf_counter()
    stored = stored_model(args.model)
    rows = read_lines(args.calibration)[: args.spec["rows"]]
    texts = [row["prompt"] + row["response"] for row in read_lines(args.text)[: args.spec["rows"]]]
    kept = Kept(args.scratch, stored["fingerprint"])
    result = measure_perplexities(stored["path"], args.spec, rows, texts, kept)
    hashes = {"calibration_sha256": sha256(args.calibration), "text_sha256": sha256(args.text)}
    record = {"spec": args.spec, "base": base_of(stored), **hashes, **result}
    write_json(args.out, {**record, "provenance": provenance(started)})
    log.info("perplexity %s", ", ".join(f"{key} {value:.4g}" for key, value in result["perplexity"].items()))


if __name__ == "__main__":
    run_stage(main)
