"""Score what a trained cell generated on one task, by lm-eval and the task's answer rules.

python -m pissa_repro.stages.evaluate --spec "$SPEC" --data DATA.jsonl --generations generated.jsonl \
    --record score.json --samples samples.jsonl [--model MODEL.json --init DIR --trained DIR]
python -m pissa_repro.stages.evaluate --rescore results/cells/*/*/*/eval/gsm8k.json

The record holds score, n and standard error of every metric; the samples hold each prompt,
generation and verdict. With --model and --trained, what is missing is generated first. --rescore
applies today's answer rules to records that are there, from their samples, without a model.
"""

import argparse
import json
import logging
import time
from pathlib import Path

from pissa_repro.runtime.errors import run_stage
from pissa_repro.runtime.provenance import provenance
from pissa_repro.runtime.record import write_json, write_lines
from pissa_repro.scoring import generations
from pissa_repro.scoring.score import complete, rescore, score, summary
from pissa_repro.stages.options import add_generation

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rescore", nargs="+", type=Path, metavar="RECORD", help="records to score again, in place")
    parser.add_argument("--spec", type=json.loads, help="canonical JSON of the evaluate stage")
    parser.add_argument("--data", type=Path, help="JSON lines of the test rows")
    parser.add_argument("--generations", type=Path, help="what the generate stage has kept")
    parser.add_argument("--record", type=Path, help="the record to write")
    parser.add_argument("--samples", type=Path, help="the JSON lines of every item to write")
    more = parser.add_argument_group("to generate what is missing")
    more.add_argument("--model", help="record of the fetched base model")
    more.add_argument("--init", type=Path, nargs="?", help="folder of initial factors (methods with factors)")
    more.add_argument("--trained", type=Path, help="folder of trained weights")
    add_generation(parser)
    args = parser.parse_args(argv)
    if args.rescore:
        for path in args.rescore:
            log.info("%s", rescore(path, args.data))
        return
    for name in ("spec", "data", "generations", "record", "samples"):
        if getattr(args, name) is None:
            parser.error(f"--{name} is needed (or --rescore)")
    started = time.perf_counter()
    if bool(args.trained) != bool(args.model):
        parser.error("--model and --trained go together")
    if args.trained:
        complete(args)
    record, samples = score(args.spec, args.data, generations.read(args.generations))
    write_lines(args.samples, samples)
    write_json(args.record, {**record, "provenance": provenance(started)})
    log.info("%s", summary(record["metrics"]))


if __name__ == "__main__":
    run_stage(main)
