"""What benchmarks/evaluate.py prints: the tables, and the limits with whether they held."""

import statistics
from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

from evaluate_worker import DEFAULT
from init_report import Floor

Line = dict[str, Any]
TIMES_FASTER = 3  # vLLM's tokens per second against lm-eval's default
MANY_CELLS = 1.5  # vLLM's whole process for six cells against that for one


def spread(values: Iterable[float], key: str) -> dict[str, float]:
    """{key_median, key_min, key_max}."""
    found = list(values)
    return {f"{key}_median": statistics.median(found), f"{key}_min": min(found), f"{key}_max": max(found)}


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Over all pairs of runs."""
    return [one / other for one, other in product(above, below)]


def speeds(lines: Sequence[Line]) -> None:
    """Tokens per second of one model, start-up, and how many texts are those of lm-eval's default."""
    first = lines[0]
    print(
        f"\n{first['model']}, {first['parameters'] / 1e6:.1f} M parameters, {first['device']}, {first['threads']} "
        f"threads: {first['items']} items, up to {first['new_tokens']} new tokens"
    )
    print(f"{'':17s}{'tokens per second':>27s}{'':9s}{'start-up, seconds':>19s}")
    print(
        f"{'':17s}{'median':>9s}{'min':>9s}{'max':>9s}{'tokens':>9s}{'imports':>10s}{'engine':>9s}"
        f"{'x default':>11s}  texts as the default's"
    )
    for line in lines:
        rates = "".join(f"{line[f'rate_{key}']:9.1f}" for key in ("median", "min", "max"))
        start = f"{line['imports_seconds']:10.1f}{line['start_seconds']:9.1f}"
        print(f"{line['name']:17s}{rates}{line['tokens']:9d}{start}{line['times_default_median']:11.2f}  {same(line)}")


def same(line: Line) -> str:
    """The share of equal texts in words."""
    text = f"{100 * line['identical']:.1f} %"
    if not line["parted"]:
        return text
    ties = "" if line["near_ties"] is None else f", {line['near_ties']} of them at near-ties"
    return f"{text}, {line['parted']} parted{ties}"


def cells(lines: Sequence[Line]) -> None:
    """Seconds of whole processes for one cell and for many."""
    print(f"\none process of the generate stage, {lines[0]['items']} items a cell: seconds, start-up included")
    print(f"{'':17s}{'one cell':>9s}{'min':>9s}{'max':>9s}{'many':>9s}{'min':>9s}{'max':>9s}  seconds a further cell")
    for line in lines:
        times = "".join(
            f"{line[f'{which}_{key}']:9.1f}" for which in ("one", "many") for key in ("median", "min", "max")
        )
        print(f"{line['name']:17s}{times}  {line['further_median']:.2f}, of {line['cells']}")


def limits(speed: Sequence[Line], cost: Sequence[Line]) -> list[Floor]:
    """The limits on vLLM; beside them HF's figures, which have none."""
    found = [
        _floor(f"{line['model']}: {line['name']} / {DEFAULT}, tokens per second", line, "times_default", TIMES_FASTER)
        for line in speed
        if line["name"] != DEFAULT
    ]
    return found + [
        _floor(f"{line['name']}: {line['cells']} cells / 1 cell, time", line, "ratio", MANY_CELLS) for line in cost
    ]


def _floor(claim: str, line: Line, key: str, limit: float) -> Floor:
    median, least, most = (line[f"{key}_{which}"] for which in ("median", "min", "max"))
    return Floor(claim, (median, least, most), limit if line["name"] == "vllm" else None, key == "times_default")
