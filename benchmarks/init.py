"""Time initialisation, ours beside torch's, PEFT's and the released code's: `make bench-init`.

python benchmarks/init.py [--sizes 2048 11008x4096] [--rank 128] [--repeats 5] [--device cuda]
python benchmarks/init.py --whole-model 7b        # every weight of a model of LLaMA-7B's shapes

One process; the contenders take turns, so that drift hits all alike. Each leaves one line a shape in
results/benchmarks/init.jsonl; a figure of time against error lies beside it. What is compared, on which
weight: init_contenders.py. At the end the floors, each with PASS or what it is short by.
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import init_figure
import init_model
import init_report
import torch
from common import RESULTS, keep
from init_contenders import Case, Contender, contenders, trained_like
from init_costs import Cost, cost, peaks, timed

SHAPES = ["4096", "11008x4096", "1024x4096"]
PAUSE = 0.2  # seconds: the threads of SciPy's BLAS and of torch spin on for a while and disturb each other
WARM_UP = (640, 576, 8)  # shape and rank: large enough for every solver


def shape(text: str) -> tuple[int, int]:
    """2048 or 11008x4096, as (out, in)."""
    out, _, into = text.partition("x")
    return int(out), int(into or out)


def measure(
    rows: list[Contender], args: argparse.Namespace
) -> tuple[dict[str, list[float]], dict[str, dict[str, Any]]]:
    """Wall seconds of every contender's runs, and the judgement of its first; each after a pause."""
    reasons = warm_up(args.device)
    seconds: dict[str, list[float]] = {one.name: [] for one in rows}
    judged = {name: {"reason": reason} for name, reason in reasons.items()}
    for _ in range(args.repeats):
        for one in rows:
            spent = seconds[one.name]
            if one.name in reasons or (spent and sum(spent) + statistics.mean(spent) > args.budget):
                continue
            time.sleep(PAUSE)
            took, found = timed(one.call, args.device)
            spent.append(took)
            if one.name not in judged:
                judged[one.name] = one.judge(found)
            del found
    return seconds, judged


def warm_up(device: str) -> dict[str, str]:
    """One small run of each, and its judgement; why some do not run on this device."""
    reasons, rows = {}, contenders(trained_like(*WARM_UP, device))
    for one in rows:
        try:
            one.judge(one.call())
        except (AssertionError, RuntimeError) as error:
            if not one.tried:
                raise
            reasons[one.name] = str(error).splitlines()[0]
    return reasons


def line_of(one: Contender, case: Case, seconds: list[float], judged: dict[str, Any], device: str) -> dict[str, Any]:
    """One line of the results; fields that do not apply are null."""
    places = {"median": statistics.median, "min": min, "max": max}
    return {
        "name": one.name,
        "device": device,
        "shape": list(case.weight.shape),
        "rank": case.rank,
        **{f"seconds_{key}": pick(seconds) if seconds else None for key, pick in places.items()},
        "frobenius_excess": None,
        "error_reduction": None,
        "seconds": seconds,
        "runs": len(seconds),
        **judged,
    }


def add_shares(line: dict[str, Any], work: Cost | None, peak: dict[str, float]) -> dict[str, Any]:
    """The line of one of ours with its operations and bytes, and their shares of what the machine can do."""
    if work is None:
        return line
    speed = [part / line["seconds_median"] for part in work]
    shares = {"product_share": speed[0] / peak["product_peak"], "copy_share": speed[1] / peak["copy_peak"]}
    return {**line, "operations": work[0], "bytes": work[1], **shares, **peak}


def bench(size: tuple[int, int], args: argparse.Namespace) -> list[dict[str, Any]]:
    """The lines of one shape."""
    case = trained_like(*size, args.rank, args.device)
    _ = case.error, case.plain, case.nuclear  # what judging needs is made before the clock runs
    peak = peaks(min(size), args.device)
    rows = contenders(case)
    work = {one.name: cost(one.name, one.call, size, args.rank) for one in rows}
    seconds, judged = measure(rows, args)
    lines = [line_of(one, case, seconds[one.name], judged[one.name], args.device) for one in rows]
    return [add_shares(line, work[line["name"]], peak) for line in lines]


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=shape, nargs="+", default=[shape(size) for size in SHAPES])
    parser.add_argument("--rank", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--budget", type=float, default=60, help="seconds a contender and shape; one run at least")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="of torch and of SciPy's BLAS (default: every core)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the lines and the figure")
    parser.add_argument("--whole-model", choices=init_model.SHAPES, help="instead: all weights of a model")
    parser.add_argument("--layers", type=int, help="of the whole model (default: all)")
    return parser.parse_args(argv)


def limit_threads(count: int) -> None:
    """For torch, and for SciPy's BLAS, which reads its variable when it is imported."""
    if "scipy.linalg" in sys.modules:
        raise RuntimeError("--threads comes too late: SciPy is loaded already.")
    os.environ |= {"OPENBLAS_NUM_THREADS": str(count), "OMP_NUM_THREADS": str(count)}
    torch.set_num_threads(count)


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.threads:
        limit_threads(args.threads)
    if args.whole_model:
        keep("init", init_model.bench(args.whole_model, args.layers, args.rank, args.device), args.out)
        return
    if os.getloadavg()[0] > 0.5:
        print(f"load {os.getloadavg()[0]:.1f} before the first run: with other work beside it, times mean little")
    shapes = []
    with torch.no_grad():
        for size in args.sizes:
            shapes.append(bench(size, args))
            init_report.table(shapes[-1])
            for line in shapes[-1]:
                keep("init", line, args.out)
    init_figure.draw(shapes, args.out)
    for lines in shapes:
        print("\nfloors at", " x ".join(map(str, lines[0]["shape"])), "(median, and the range over all pairs of runs)")
        for floor in init_report.floors(lines):
            print(floor)


if __name__ == "__main__":
    main()
