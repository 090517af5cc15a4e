"""Do two back-ends generate the same? One cell on one task, item by item.

python -m pissa_repro.stages.parity --first hf.jsonl --second vllm.jsonl --model MODEL.json --data DATA.jsonl \
    [--init DIR] --trained DIR --out parity.json
python -m pissa_repro.stages.parity --report parity.json ...     # a line each; fails where they disagree

Reads what the generate stage has kept for both. Where two texts part, the merged model says how near
its two next tokens were: in float32 only near-ties may part, rounding decides those. The record holds
the share of equal texts, every item that parted with its gap, and whether all were near-ties.
"""

import argparse
from pathlib import Path

from pissa_repro.runtime import gpus
from pissa_repro.runtime.errors import run_stage
from pissa_repro.scoring.parity import compare_kept, show
from pissa_repro.stages.options import add_gpus


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--report", nargs="+", type=Path, metavar="RECORD", help="records to show; nothing else is done"
    )
    parser.add_argument("--first", type=Path, help="generations of one back-end")
    parser.add_argument("--second", type=Path, help="generations of the other")
    parser.add_argument("--model", help="record of the fetched base model")
    parser.add_argument("--data", type=Path, help="JSON lines of the test rows")
    parser.add_argument("--init", type=Path, nargs="?", help="folder of initial factors (methods with factors)")
    parser.add_argument("--trained", type=Path, help="folder of trained weights")
    parser.add_argument("--out", type=Path, help="the record to write")
    add_gpus(parser)
    args = parser.parse_args(argv)
    if args.report:
        show(args.report)
        return
    for name in ("first", "second", "model", "data", "trained", "out"):
        if getattr(args, name) is None:
            parser.error(f"--{name} is needed (or --report)")
    gpus.take(args.gpus)
    compare_kept(args)


if __name__ == "__main__":
    run_stage(main)
