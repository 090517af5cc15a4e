r"""Compare two scored cells item by item: scores, a verdict, the answers that flipped, and what else differs.

python -m pissa_repro.cli.compare A B
python -m pissa_repro.cli.compare results/cells/MODEL/DATA/pissa-none-r16-lr2e-05 \
    results/cells/MODEL/DATA/lora-none-r16-lr2e-05 --task gsm8k

A and B: each a scoring record (.../eval/<task>.json), its .samples.jsonl, a cell's folder, or a cell's
path without its -s<seed>. The last stands for all its seeds; they are compared with the same seeds of the
other side. Both must have been scored on the same items. Right and wrong answers are shown in percent.
The task file says whether items are that, and whether higher is better; of a metric that it does not
have, items of 0 and 1 are taken for right and wrong, and of others only "higher" and "lower" is said.
"""

import argparse
import os
import sys
import time
from pathlib import Path

from pissa_repro.report import side_by_side
from pissa_repro.results.pairs import facts, paired
from pissa_repro.runtime.errors import run_stage
from pissa_repro.runtime.provenance import provenance
from pissa_repro.runtime.record import write_json
from pissa_repro.tasks import METRIC


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a", metavar="A", help="a score, see above")
    parser.add_argument("b", metavar="B", help="the score that it is compared with")
    parser.add_argument("--task", help="the task of a folder (default: the only one that is scored)")
    parser.add_argument("--metric", default=METRIC, help=f"a metric of the records (default {METRIC})")
    parser.add_argument("--examples", type=int, default=3, metavar="N", help="items to show each way (default 3)")
    parser.add_argument("--full", action="store_true", help="show their whole texts")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write these facts as a record")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args, started = arguments(argv), time.perf_counter()
    found = facts(*paired(args.a, args.b, args.task, args.metric), args.metric, max(0, args.examples))
    if args.json:
        write_json(args.json, {**found, "provenance": provenance(started)})
    try:
        print(side_by_side.show(found, args.full), flush=True)
    except BrokenPipeError:  # `| head` has seen enough; what is left must not be flushed at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    run_stage(main)
