"""Compare two scored cells item by item.

    pissa compare results/cells/M/D/pissa-none-r16-lr0.003 results/cells/M/D/lora-none-r16-lr0.003
    pissa compare results/cells/M/D/pissa-none-r16-lr0.003-s0 results/cells/M/D/lora-none-r16-lr0.003-s0 --task gsm-mini

Prints the scores, a verdict, the answers that flipped, and what else differs. A and B: each a scoring record
(.../eval/<task>.json), its .samples.jsonl, a cell's folder, or a cell's path without its -s<seed>. The last stands for
all its seeds; they are compared with the same seeds of the other side. Both must have been scored on the same items.
Right and wrong answers are shown in percent. The task file says whether items are that, and whether higher is better;
of a metric that it does not have, items of 0 and 1 are taken for right and wrong, and of others only "higher" and
"lower" is said.
"""

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from pissa_repro.report import side_by_side
from pissa_repro.results.pairs import facts, paired
from pissa_repro.runtime.provenance import provenance
from pissa_repro.runtime.record import write_json
from pissa_repro.tasks import METRIC


def compare(
    a: Annotated[str, typer.Argument(help="A score, see above.")],
    b: Annotated[str, typer.Argument(help="The score that it is compared with.")],
    task: Annotated[str | None, typer.Option(help="The task of a folder (default: the only one scored).")] = None,
    metric: Annotated[str, typer.Option(help="A metric of the records.")] = METRIC,
    examples: Annotated[int, typer.Option(help="Items to show each way.")] = 3,
    full: Annotated[bool, typer.Option("--full", help="Show their whole texts.")] = False,
    json: Annotated[Path | None, typer.Option(help="Also write these facts as a record.")] = None,
) -> None:
    """The text of the comparison."""
    started = time.perf_counter()
    comparison = facts(*paired(a, b, task, metric), metric, max(0, examples))
    if json:
        write_json(json, {**comparison, "provenance": provenance(started)})
    try:
        print(side_by_side.show(comparison, full), flush=True)
    except BrokenPipeError:  # `| head` has seen enough; what is left must not be flushed at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
