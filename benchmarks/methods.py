"""Time every method's start and training step beside LoRA's, in turns: python benchmarks/methods.py [--quick]

python benchmarks/methods.py --width 4096            # one layer of LLaMA-2-7B's shapes, beside the embedded model
python benchmarks/methods.py --only adalora lora_pro

In each of --repeats turns a method and LoRA on the same base make their start and train --steps steps, one after the
other, so that other work on the machine hits both alike. Of a turn counts the median step; what is printed and kept
(methods.jsonl) is the median over turns and the range. Statistics of data are measured once, and are no part of a
start. The row `PEFT's adalora` is PEFT's own AdaLoRA in the same trainer; AdaLoRA and LoRA-Pro may take LIMIT times as
long as it.
"""

import argparse
import logging
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import RESULTS, keep
from methods_models import PEFT, Bench, cells

LIMIT = 1.5
HELD = ("adalora", "lora_pro")  # whose hooks the limit holds


def ratios(pairs: list[tuple[float, ...]]) -> dict[str, float]:
    """Median, smallest and largest of how many times as long the first of a pair took."""
    found = [ours / other for ours, other in pairs]
    return {"median": statistics.median(found), "low": min(found), "high": max(found)}


def compared(bench: Bench, name: str, quant: str, repeats: int) -> dict[str, Any]:
    """The line of a method: seconds of its start and of a step, and how many times LoRA's they are."""
    pair = (name, bench.reference)
    for method in pair:
        bench.prepare(method, quant)
        bench.step(method, quant)  # the first training of a process takes longer
    turns = range(repeats)
    starts, steps = (
        [tuple(timed(method, quant) for method in pair) for _ in turns] for timed in (bench.start, bench.step)
    )
    return {
        "model": bench.name,
        "method": name,
        "quant": quant,
        "start_seconds": [one for one, _ in starts],
        "step_seconds": [one for one, _ in steps],
        "step_ratio": ratios(steps),
        **({"start_ratio": ratios(starts)} if starts[0][0] else {}),
        "statistics_seconds": bench.statistics_seconds(name, quant),
    }


def show(line: dict[str, Any]) -> None:
    """Print a line."""
    name, said = f"{line['method']} ({line['quant']})", "{median:.2f} times LoRA's [{low:.2f}, {high:.2f}]"
    print(f"{line['model']:12s} {name:24s} step {said.format(**line['step_ratio'])}", end="")
    if "start_ratio" in line:
        seconds = statistics.median(line["start_seconds"])
        print(f", start {seconds:.3f} s, {said.format(**line['start_ratio'])}", end="")
    print(f", statistics {seconds:.2f} s" if (seconds := line["statistics_seconds"]) else "", flush=True)


def exceeded(lines: list[dict[str, Any]]) -> list[str]:
    """The methods whose step takes more than LIMIT times PEFT's AdaLoRA, by the medians over LoRA's."""
    medians = {(line["model"], line["method"]): line["step_ratio"]["median"] for line in lines}
    return [
        f"{model}: {method}"
        for (model, method), median in medians.items()
        if method in HELD and (model, PEFT) in medians and median > LIMIT * medians[model, PEFT]
    ]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--width", type=int, nargs="*", default=[0, 512], help="of the layer; 0: the embedded model")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of methods.jsonl")
    parser.add_argument("--only", nargs="*", default=[], help="methods; default: all, and PEFT's AdaLoRA")
    parser.add_argument("--quick", action="store_true", help="one turn of few steps: shows whether it runs")
    args = parser.parse_args(argv)
    if args.quick:
        args.repeats, args.steps = 1, 4
    lines = []
    for width in args.width:
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(Path(folder), width, args.rank, args.steps)
            for name, quant in cells(args.only):
                lines.append(compared(bench, name, quant, args.repeats))
                show(lines[-1])
                keep(
                    "methods", {**lines[-1], "rank": args.rank, "steps": args.steps, "repeats": args.repeats}, args.out
                )
    if slow := exceeded(lines):
        sys.exit(f"error: more than {LIMIT} times the step of PEFT's AdaLoRA: {', '.join(slow)}")


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    main()
