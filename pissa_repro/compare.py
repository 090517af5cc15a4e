r"""Compare two scored cells item by item: scores, a verdict, the answers that flipped, and what else differs.

python -m pissa_repro.compare A B
python -m pissa_repro.compare results/cells/MODEL/DATA/pissa-none-r16-lr2e-05 \
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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pissa_repro import scored, side_by_side, stats
from pissa_repro.errors import UserError, run_stage
from pissa_repro.measure import PERCENT, verdict
from pissa_repro.provenance import provenance
from pissa_repro.published import METRIC
from pissa_repro.record import write_json
from pissa_repro.scored import Scored

Pairs = list[tuple[Scored, Scored]]


def paired(a: str, b: str, task: str | None = None, metric: str = METRIC) -> tuple[Pairs, dict[str, list[int]]]:
    """What A and B stand for, in pairs with the same items, and the seeds that only one side has.

    Two cells that are named outright are one pair, whatever their seeds. Raises UserError when no seed
    is on both sides, a pair is one and the same score, or the items differ.
    """
    records = [scored.find(given, task) for given in (a, b)]
    by_seed = [{scored.seed(scored.read_record(path)): path for path in found} for found in records]
    only: dict[str, list[int]] = {"a": [], "b": []}
    if Path(a).exists() and Path(b).exists():
        paths = [tuple(found[0] for found in records)]
    else:
        paths = [(path, by_seed[1][one]) for one, path in by_seed[0].items() if one in by_seed[1]]
        only = {
            "a": [s for s in by_seed[0] if s not in by_seed[1]],
            "b": [s for s in by_seed[1] if s not in by_seed[0]],
        }
    if not paths:
        raise UserError(f"no seed is on both sides: A has {list(by_seed[0])} ({a}), B has {list(by_seed[1])} ({b}).")
    for one, other in paths:
        if one.resolve() == other.resolve():
            raise UserError(f"A and B are the same score: {one}.")
    pairs = [(scored.read(one, metric), scored.read(other, metric)) for one, other in paths]
    first = pairs[0][0]
    return [(aligned(one, first), aligned(other, first)) for one, other in pairs], only


def aligned(one: Scored, other: Scored) -> Scored:
    """The same score with its items in the order of another. Raises UserError, with the shared ones, if they differ."""
    place, wanted = {key: i for i, key in enumerate(scored.keys(one.rows))}, scored.keys(other.rows)
    if set(place) != set(wanted) or len(one.rows) != len(wanted):
        raise UserError(
            f"{one.path} ({len(one.rows)} items) and {other.path} ({len(wanted)}) were scored on different items: "
            f"they share {len(set(place) & set(wanted))} (same id and prompt)."
        )
    order = [place[key] for key in wanted]
    return Scored(one.path, one.record, [one.rows[i] for i in order], one.scores[order])


def facts(pairs: Pairs, only: dict[str, list[int]], metric: str, examples: int = 3) -> dict[str, Any]:
    """Everything that is said about the pairs, in the unit of the scores (fractions of 1 where they are 0 or 1)."""
    first = pairs[0][0]
    a, b = (np.stack([pair[side].scores for pair in pairs]) for side in (0, 1))
    seeds = [[scored.seed(one.record) for one in pair] for pair in pairs]
    shown = scored.measured(first.record, metric)
    binary = scored.is_binary(np.stack([a, b]), shown)
    higher_is_better = shown.higher_is_better if shown else True if binary else None
    difference = stats.paired_bootstrap(a, b, ("A", "B"))
    by_seed = [_seed(pair, binary) | {"seed": s} for pair, s in zip(pairs, seeds, strict=True)]
    return {
        "task": first.path.stem,
        "metric": metric,
        "binary": binary,
        "unit": "fraction" if binary or (shown and shown.unit == PERCENT) else shown.unit if shown else "",
        "higher_is_better": higher_is_better,
        "items": len(first.rows),
        "only_one_side": only,
        "a": _side([pair[0] for pair in pairs], a, metric),
        "b": _side([pair[1] for pair in pairs], b, metric),
        "difference": {**vars(difference), "verdict": verdict(difference.verdict, higher_is_better)},
        "by_seed": by_seed,
        "differ_in": scored.differences(pairs),
        "uncommitted_changes": [any(scored.uncommitted(pair[side]) for pair in pairs) for side in (0, 1)],
        "examples": {"a": list(_examples(pairs, a - b, examples)), "b": list(_examples(pairs, b - a, examples))},
    }


def _side(cells: list[Scored], scores: np.ndarray, metric: str) -> dict[str, Any]:
    value, spread = stats.mean_std(scores.mean(axis=1))
    return {
        "display": scored.display(cells[0].record),
        "records": [str(one.path) for one in cells],
        "seeds": [scored.seed(one.record) for one in cells],
        "value": value,
        "recorded": stats.mean_std([one.record["metrics"][metric]["value"] for one in cells])[0],
        "stderr_items": stats.stderr_items(scores),
        "std_seeds": spread,
    }


def _seed(pair: tuple[Scored, Scored], binary: bool) -> dict[str, Any]:
    """One pair: its scores, the ids of the items on which either is higher, McNemar's p, and how many texts are equal.

    same_text: None where nothing was generated; rescored: items with the same text and another score.
    """
    a, b = (one.scores for one in pair)
    ids = [row["id"] for row in pair[0].rows]
    same = [text(x) == text(y) for x, y in zip(pair[0].rows, pair[1].rows, strict=True)]
    generated = all(text(row) is not None for one in pair for row in one.rows)
    return {
        "a": float(a.mean()),
        "b": float(b.mean()),
        "higher_in_a": [ids[i] for i in np.flatnonzero(a > b)],
        "higher_in_b": [ids[i] for i in np.flatnonzero(b > a)],
        "mcnemar_p": stats.mcnemar(a, b).p if binary else None,
        "same_text": sum(same) if generated else None,
        "rescored": int((np.array(same) & (a != b)).sum()) if generated else None,
    }


def text(row: dict[str, Any]) -> str | None:
    """The text that was generated for an item, its turns one after the other; None where there is none."""
    found = row.get("generated")
    if isinstance(found, list):
        return "\n\n".join(map(str, found))
    return found if isinstance(found, str) else None


def _examples(pairs: Pairs, change: np.ndarray, count: int) -> Iterator[dict[str, Any]]:
    """The items with the largest positive changes, summed over the seeds; each is shown at the seed of its largest."""
    gain = np.clip(change, 0, None)
    order = np.argsort(-gain.sum(axis=0), kind="stable")
    for item in [int(i) for i in order[:count] if gain[:, i].any()]:
        pair = pairs[int(gain[:, item].argmax())]
        row, other = (one.rows[item] for one in pair)
        yield {
            "id": row["id"],
            "seeds": [scored.seed(one.record) for one in pair],
            "scores": [float(one.scores[item]) for one in pair],
            "prompt": str(row["prompt"]),
            "target": str(row.get("target", "")),
            "generated": [text(row), text(other)],
        }


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
