"""Two scored cells, paired item by item: scores, a verdict, the answers that flipped, and what else differs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pissa_repro.results import scored, stats
from pissa_repro.results.measure import PERCENT, verdict
from pissa_repro.results.scored import Scored
from pissa_repro.runtime.errors import UserError
from pissa_repro.tasks import METRIC

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
