"""Score what a trained cell generated on one task, by lm-eval and the task's answer rules.

python -m pissa_repro.stages.evaluate --spec "$SPEC" --data DATA.jsonl --generations generated.jsonl \
    --record score.json --samples samples.jsonl [--trained-on TRAIN.jsonl] \
    [--model MODEL.json --init DIR --trained DIR]

The record holds score, n and standard error of every metric; the samples hold each prompt,
generation and verdict. With --trained-on, the rows of the training, it also says how many of the scored prompts
were trained on. With --model and --trained, what is missing is generated first.
"""

import logging
import time
from pathlib import Path

from pissa_repro.runtime import gpus
from pissa_repro.runtime.errors import run_stage
from pissa_repro.runtime.provenance import provenance
from pissa_repro.runtime.record import write_json, write_lines
from pissa_repro.scoring import engines, generations
from pissa_repro.scoring.generator import Generator, Job
from pissa_repro.scoring.score import score, summary
from pissa_repro.sources.fetched import stored_model
from pissa_repro.stages.options import add, stage_parser

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    parser = stage_parser(
        __doc__, "spec", "data",
        generations="what the generate stage has kept",
        record="the record to write",
        samples="the JSON lines of every item to write",
    )  # fmt: skip
    parser.add_argument("--trained-on", type=Path, help="JSON lines of the rows that the cell was trained on")
    parser.add_argument("--model", help="record of the base model, to generate what is missing")
    parser.add_argument("--trained", type=Path, help="folder of trained weights, to generate what is missing")
    add(parser, "init", "batch-size", "tensor-parallel", "gpus")
    args = parser.parse_args(argv)
    started = time.perf_counter()
    if bool(args.trained) != bool(args.model):
        parser.error("--model and --trained go together")
    if args.trained:
        engines.check(args.spec["generate"]["backend"], args.gpus, args.tensor_parallel)
        gpus.take(args.gpus)
        kept = args.generations
        job = Job(str(kept), args.spec["generate"], args.init, args.trained, args.data, kept)
        Generator(stored_model(args.model), args.batch_size, args.tensor_parallel).run([job])
    record, samples = score(args.spec, args.data, generations.read(args.generations), args.trained_on)
    write_lines(args.samples, samples)
    write_json(args.record, {**record, "provenance": provenance(started)})
    lost = record.get("diverged")
    log.info("%s", f"no score: the training diverged at step {lost}" if lost else summary(record["metrics"]))


if __name__ == "__main__":
    run_stage(main)
