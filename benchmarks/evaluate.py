"""Time generating for scores: lm-eval's default, this project's HF batches and vLLM, and one more cell's cost.

python benchmarks/evaluate.py [--repeats 5] [--gpus 0] [--out]
python benchmarks/evaluate.py --quick            # does it run? The numbers mean nothing

Tokens per second, on the embedded model and on a Llama of 100M random weights: a process a contender, all
of them up at the same time and taking turns, so that drift hits all alike. Start-up is told apart. Then
whole processes of the generate stage, for one trained cell and for six. At the end the limits, each with
PASS or what it is short by. --out appends JSON lines to results/benchmarks/evaluate.jsonl.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import evaluate_cells
import evaluate_report
from common import RESULTS, ROOT, keep
from evaluate_models import Model, parameters, random_llama, rows_of
from evaluate_worker import CONTENDERS, DEFAULT, DTYPE, Worker

from pissa_repro.runtime import gpus
from pissa_repro.scoring import engines
from pissa_repro.sources.fetched import EMBEDDED
from pissa_repro.stages.options import add

PAUSE = 0.3  # seconds: OpenMP's threads spin on for a while and would disturb the next contender
BATCH = {DEFAULT: (1, 1), "hf": (64, 16), "vllm": (256, 256)}  # on CPU and GPU; rules/common.smk, batch_prompts


class Size(NamedTuple):
    """How much is done. large: items, new tokens, width and layers of the random Llama."""

    items: int
    new_tokens: int
    large: tuple[int, int, int, int]
    cells: int
    steps: int
    repeats: int


FULL = Size(items=250, new_tokens=56, large=(32, 48, 768, 14), cells=6, steps=40, repeats=3)
QUICK = Size(items=6, new_tokens=8, large=(4, 8, 128, 2), cells=2, steps=2, repeats=1)


def models(size: Size, folder: Path) -> list[Model]:
    """The embedded model, and a random Llama with its tokenizer, written into the folder."""
    items, new_tokens, width, layers = size.large
    random_llama(folder, width, layers)
    name = f"llama-{parameters(folder) / 1e6:.0f}m"
    embedded = Model("embedded", EMBEDDED, size.items, size.new_tokens)
    return [embedded, Model(name, folder, items, new_tokens)]


def speeds(model: Model, names: list[str], args: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """A line for each contender on one model."""
    rows = rows_of(model.items, folder)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    with ExitStack() as stack:
        # vLLM first: on a GPU it takes its share of what is free when it starts.
        workers = {
            name: stack.enter_context(
                Worker(name, model.folder, rows, model.new_tokens, BATCH[name][args.gpus > 0], args.threads)
            )
            for name in reversed(names)
        }
        for name in names:
            workers[name].run(rows_of(min(model.items, max(2, min(BATCH[name][args.gpus > 0], 64))), folder))
        for _ in range(args.repeats):
            for name in names:
                time.sleep(PAUSE)
                runs[name].append(workers[name].run(rows))
        started = {name: worker.started for name, worker in workers.items()}
    return [line_of(model, name, runs, started[name], rows, args) for name in names]


def line_of(
    model: Model, name: str, runs: dict[str, list[dict]], started: dict[str, Any], rows: Path, args: argparse.Namespace
) -> dict[str, Any]:
    """One line of the results; near_ties is null where texts cannot be traced to their tokens."""
    rates = {one: [run["tokens"] / run["seconds"] for run in found] for one, found in runs.items()}
    ours, theirs = (runs[one][-1]["texts"] for one in (name, DEFAULT))
    parted = [i for i, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1]]
    traced = model.folder == EMBEDDED  # random tokens do not survive being texts
    return {
        "name": name,
        "part": "speed",
        "model": model.name,
        "parameters": parameters(model.folder),
        "items": model.items,
        "new_tokens": model.new_tokens,
        "batch_size": BATCH[name][args.gpus > 0],
        "tokens": runs[name][-1]["tokens"],
        **evaluate_report.spread(rates[name], "rate"),
        **evaluate_report.spread(evaluate_report.ratios(rates[name], rates[DEFAULT]), "times_default"),
        "seconds": [run["seconds"] for run in runs[name]],
        **started,
        "identical": 1 - len(parted) / model.items,
        "parted": len(parted),
        "near_ties": near_ties(model, rows, [(i, ours[i], theirs[i]) for i in parted]) if traced else None,
    }


def near_ties(model: Model, rows: Path, parted: list[tuple[int, str, str]]) -> int:
    """How many of the texts part where rounding decides (parity.py): the model's two best tokens, nearly equal."""
    if not parted:
        return 0
    from pissa_repro.model.load import load_base
    from pissa_repro.model.tokens import load_tokenizer
    from pissa_repro.scoring import harness, parity
    from pissa_repro.sources.prompt import DEFAULT, make_style

    task = harness.Task("gsm8k", rows, model.new_tokens)
    base, style = load_base(model.folder, device="cpu").eval(), make_style(DEFAULT, load_tokenizer(model.folder))
    window = base.config.max_position_embeddings - model.new_tokens
    found = [parity.parted(base, style, task.prompt(i, style), (ours, theirs), window) for i, ours, theirs in parted]
    return sum(one["top_two"] and one["gap"] <= parity.NEAR_TIE[DTYPE] for one in found)


def costs(names: list[str], size: Size, args: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """A line for each back-end: whole processes for one cell and for many."""
    script = [sys.executable, ROOT / "benchmarks" / "evaluate_cells.py", folder]
    asked = [f"--cells={size.cells}", f"--steps={size.steps}", f"--items={size.items}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*map(str, script), *asked], env=environment, capture_output=True, encoding="utf-8")
    if done.returncode:
        raise RuntimeError(f"the cells could not be made:\n{done.stderr[-3000:]}")
    sweeps = {count: evaluate_cells.sweep(count, size.steps, size.items) for count in (1, size.cells)}
    runs: dict[tuple[str, int], list[dict[str, Any]]] = {(name, count): [] for name in names for count in sweeps}
    for _ in range(args.repeats):
        for name, count in runs:
            batch = BATCH[name][args.gpus > 0]
            runs[name, count].append(
                evaluate_cells.generate(folder, sweeps[count], name, batch, args.gpus, args.threads)
            )
    return [cost_of(name, size, runs[name, 1], runs[name, size.cells], args) for name in names]


def cost_of(name: str, size: Size, one: list[dict], many: list[dict], args: argparse.Namespace) -> dict[str, Any]:
    """One line of the results. Ratios and differences are over all pairs of runs."""
    few, all_cells = ([run["seconds"] for run in runs] for runs in (one, many))
    further = [(more - less) / (size.cells - 1) for more in all_cells for less in few]
    return {
        "name": name,
        "part": "cells",
        "model": "embedded",
        "cells": size.cells,
        "items": size.items,
        "tokens_one": one[-1]["tokens"],
        "tokens_many": many[-1]["tokens"],
        "batch_size": BATCH[name][args.gpus > 0],
        "threads": args.threads,
        "gpus": args.gpus,
        **evaluate_report.spread(few, "one"),
        **evaluate_report.spread(all_cells, "many"),
        **evaluate_report.spread(evaluate_report.ratios(all_cells, few), "ratio"),
        **evaluate_report.spread(further, "further"),
        "seconds_one": few,
        "seconds_many": all_cells,
    }


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, help=f"runs of each contender (default {FULL.repeats})")
    parser.add_argument(
        "--threads", type=int, default=len(os.sched_getaffinity(0)), help="of each (default: all cores)"
    )
    parser.add_argument("--skip-vllm", action="store_true", help="where vLLM is not installed")
    parser.add_argument("--quick", action="store_true", help="tiny models and few items: does it run?")
    parser.add_argument(
        "--out", type=Path, nargs="?", const=RESULTS, help="append to evaluate.jsonl there (default results/benchmarks)"
    )
    add(parser, "gpus")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    size = QUICK if args.quick else FULL
    args.repeats = args.repeats or size.repeats
    if not args.skip_vllm:
        engines.check("vllm", args.gpus)
    names = [name for name in CONTENDERS if name != "vllm" or not args.skip_vllm]
    if os.getloadavg()[0] > 0.5:
        print(f"load {os.getloadavg()[0]:.1f} before the first run: with other work beside it, times mean little")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cost = costs(names[1:], size, args, folder / "cells")  # its processes take the GPU themselves
        gpus.take(args.gpus)
        speed = [line for model in models(size, folder / "model") for line in shown(model, names, args, folder)]
    evaluate_report.cells(cost)
    print("\nlimits (median, and the range over all pairs of runs)")
    for limit in evaluate_report.limits(speed, cost):
        print(limit)
    for line in speed + cost if args.out else []:
        keep("evaluate", line, args.out)


def shown(model: Model, names: list[str], args: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """The lines of one model, printed as soon as they are there."""
    lines = speeds(model, names, args, folder)
    evaluate_report.speeds(lines)
    return lines


if __name__ == "__main__":
    main()
