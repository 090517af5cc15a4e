"""Time training beside transformers' plain Trainer and TRL's defaults: python benchmarks/train.py [--quick]

python benchmarks/train.py --model FOLDER --rows train.jsonl    # a model of yours, GSM8K's own rows
python benchmarks/train.py --width 4096                         # one layer of LLaMA-2-7B's shapes

In each of --repeats turns the three train the same cell, one after the other, so that other work on the machine hits
all alike. Tokens a second count no padding; the share of padding is said beside. What is printed and kept (train.jsonl)
is the median over turns and the range, of ratios over the pairs of a turn. The losses of all steps have to be the same,
relatively within LIMIT: else it ends with an error.
"""

import argparse
import logging
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import RESULTS, keep
from methods import ratios
from train_models import OURS, PLAIN, TRL, Ran, Training

KEYS = ("model", "rows", "width", "compiled")  # options that say what is trained
LIMIT = 1e-5  # of the losses, relatively: orders of a sum in float32


def difference(ours: Ran, other: Ran) -> float:
    """The largest relative difference of the losses of a step."""
    return max(abs(one - two) / abs(two) for one, two in zip(ours.losses, other.losses, strict=True))


def lines(bench: Training, micro: int, repeats: int) -> list[dict[str, Any]]:
    """A line for each contender at one micro-batch. `ours` in it: how many times as fast as it this project is."""
    turns = [{name: bench.run(name, micro) for name in (OURS, PLAIN, TRL)} for _ in range(repeats)]
    return [
        {
            "contender": name,
            "model": bench.name,
            "method": bench.method,
            "quant": bench.quant,
            "micro": micro,
            "compiled": bench.compiled and name == OURS,
            "tokens": turns[0][name].tokens,
            "padding": turns[0][name].padding,
            "tokens_per_second": [turn[name].speed for turn in turns],
            "ours": ratios([(turn[OURS].speed, turn[name].speed) for turn in turns]),
            "memory_bytes": max(turn[name].memory for turn in turns),
            "loss_difference": max(difference(turn[name], turn[OURS]) for turn in turns),
        }
        for name in (OURS, PLAIN, TRL)
    ]


def show(line: dict[str, Any]) -> None:
    """Print a line."""
    speed, memory = statistics.median(line["tokens_per_second"]), line["memory_bytes"] / 2**20
    print(
        f"{line['model']:12s} micro {line['micro']:2d}  {line['contender']:15s} {speed:9,.0f} tokens/s, "
        f"padding {line['padding']:5.1%}, peak {memory:,.0f} MiB",
        end="",
    )
    said = ", ours {median:.2f} times as fast [{low:.2f}, {high:.2f}]".format(**line["ours"])
    print("" if line["contender"] == OURS else f"{said}, losses within {line['loss_difference']:.0e}", flush=True)


def apart(found: list[dict[str, Any]]) -> list[str]:
    """The contenders whose losses are not ours; a loss that is no number is none of ours."""
    return [f"{line['contender']}, micro {line['micro']}" for line in found if not line["loss_difference"] <= LIMIT]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a folder; default: the embedded model")
    parser.add_argument("--width", type=int, default=0, help="of one layer with random weights, instead of a model")
    parser.add_argument("--rows", type=Path, help="of GSM8K's form; default: generated problems, nearly of one length")
    parser.add_argument("--method", default="pissa")
    parser.add_argument("--quant", default="none")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--batch", type=int, default=128, help="rows of a step (default 128, the paper's)")
    parser.add_argument("--micro", type=int, nargs="+", default=[4, 8], help="rows of a micro-batch")
    parser.add_argument("--compiled", action="store_true", help="this project's blocks, through torch.compile")
    parser.add_argument("--steps", type=int, default=20, help="that are timed")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of train.jsonl")
    parser.add_argument("--quick", action="store_true", help="one turn of few steps: shows whether it runs")
    args = parser.parse_args(argv)
    if args.quick:
        args.repeats, args.steps, args.batch, args.micro = 1, 2, 8, [2]
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        cell, source = (args.method, args.quant, args.rank), {key: getattr(args, key) for key in KEYS}
        bench = Training(Path(folder), cell, args.batch, args.steps, **source)
        found = [line for micro in args.micro for line in shown(bench, micro, args)]
    if wrong := apart(found):
        sys.exit(f"error: losses differ by more than {LIMIT:.0e}: {'; '.join(wrong)}")


def shown(bench: Training, micro: int, args: argparse.Namespace) -> list[dict[str, Any]]:
    """The lines at one micro-batch, printed and kept as soon as they are there."""
    found = lines(bench, micro, args.repeats)
    for line in found:
        show(line)
        keep("train", line | {key: getattr(args, key) for key in ("rank", "batch", "steps", "repeats")}, args.out)
    return found


if __name__ == "__main__":
    main()
