"""Two scored cells, paired item by item: scores, a verdict, the answers that flipped, and what else differs."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pissa_repro.results import conditions, scored, stats
from pissa_repro.results.comparison import Comparison, Example, SeedPair, Side
from pissa_repro.results.measure import PERCENT, verdict
from pissa_repro.results.scored import Scored
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record_types import Sample
from pissa_repro.tasks import METRIC

Pairs = list[tuple[Scored, Scored]]
Seeds = dict[str, list[int | None]]


def paired(a: str, b: str, task: str | None = None, metric: str = METRIC) -> tuple[Pairs, Seeds]:
    """What A and B stand for, in pairs with the same items, and the seeds that only one side has.

    Two cells that are named outright are one pair, whatever their seeds. Raises UserError when no seed
    is on both sides, a pair is one and the same score, or the items differ.
    """
    of_a, of_b = scored.find(a, task), scored.find(b, task)
    seeds_a, seeds_b = _by_seed(of_a), _by_seed(of_b)
    if Path(a).exists() and Path(b).exists():
        paths, only = [(of_a[0], of_b[0])], Seeds(a=[], b=[])
    else:
        paths = [(path, seeds_b[seed]) for seed, path in seeds_a.items() if seed in seeds_b]
        only = Seeds(a=[s for s in seeds_a if s not in seeds_b], b=[s for s in seeds_b if s not in seeds_a])
    if not paths:
        raise UserError(f"no seed is on both sides: A has {list(seeds_a)} ({a}), B has {list(seeds_b)} ({b}).")
    for path_a, path_b in paths:
        if path_a.resolve() == path_b.resolve():
            raise UserError(f"A and B are the same score: {path_a}.")
    pairs = [(scored.read(path_a, metric), scored.read(path_b, metric)) for path_a, path_b in paths]
    first = pairs[0][0]
    return [(aligned(score_a, first), aligned(score_b, first)) for score_a, score_b in pairs], only


def _by_seed(records: list[Path]) -> dict[int | None, Path]:
    """The records of scores by the seed of their training."""
    return {scored.seed(scored.read_record(path)): path for path in records}


def aligned(score: Scored, other: Scored) -> Scored:
    """The same score with its items in the order of another. Raises UserError, with the shared ones, if they differ."""
    place, wanted = {key: i for i, key in enumerate(scored.keys(score.rows))}, scored.keys(other.rows)
    if set(place) != set(wanted) or len(score.rows) != len(wanted):
        raise UserError(
            f"{score.path} ({len(score.rows)} items) and {other.path} ({len(wanted)}) were scored on different items: "
            f"they share {len(set(place) & set(wanted))} (same id and prompt)."
        )
    order = [place[key] for key in wanted]
    return Scored(score.path, score.record, [score.rows[i] for i in order], score.scores[order])


def facts(pairs: Pairs, only: Seeds, metric: str, examples: int = 3) -> Comparison:
    """Everything that is said about the pairs, in the unit of the scores (fractions of 1 where they are 0 or 1)."""
    first = pairs[0][0]
    a, b = (np.stack([pair[side].scores for pair in pairs]) for side in (0, 1))
    shown = scored.measured(first.record, metric)
    binary = scored.is_binary(np.stack([a, b]), shown)
    higher_is_better = shown.higher_is_better if shown else True if binary else None
    difference = stats.paired_bootstrap(a, b, ("A", "B"))
    called = scored.displays(*pairs[0])
    return {
        "task": first.path.stem,
        "metric": metric,
        "binary": binary,
        "unit": "fraction" if binary or (shown and shown.unit == PERCENT) else shown.unit if shown else "",
        "higher_is_better": higher_is_better,
        "items": len(first.rows),
        "only_one_side": only,
        "a": _side([pair[0] for pair in pairs], a, metric, called[0]),
        "b": _side([pair[1] for pair in pairs], b, metric, called[1]),
        "difference": {
            "mean": difference.mean,
            "low": difference.low,
            "high": difference.high,
            "resampled": difference.resampled,
            "p": difference.p,
            "verdict": verdict(difference.verdict, higher_is_better),
        },
        "by_seed": [_seed_pair(pair, binary) for pair in pairs],
        "differ_in": conditions.differences(pairs),
        "uncommitted_changes": [any(conditions.uncommitted(pair[side]) for pair in pairs) for side in (0, 1)],
        "examples": {"a": list(_examples(pairs, a - b, examples)), "b": list(_examples(pairs, b - a, examples))},
    }


def _seeds(pair: tuple[Scored, Scored]) -> list[int | None]:
    return [scored.seed(side.record) for side in pair]


def _side(cells: list[Scored], scores: np.ndarray, metric: str, display: str) -> Side:
    value, spread = stats.mean_std(scores.mean(axis=1))
    return {
        "display": display,
        "records": [str(cell.path) for cell in cells],
        "seeds": [scored.seed(cell.record) for cell in cells],
        "value": value,
        "recorded": stats.mean_std([cell.record["metrics"][metric]["value"] for cell in cells])[0],
        "stderr_items": stats.stderr_items(scores),
        "std_seeds": spread,
    }


def _seed_pair(pair: tuple[Scored, Scored], binary: bool) -> SeedPair:
    """One pair: its scores, the ids of the items on which either is higher, McNemar's p, and how many texts are equal.

    same_text: None where nothing was generated; rescored: items with the same text and another score.
    """
    a, b = (side.scores for side in pair)
    ids = [row["id"] for row in pair[0].rows]
    same = [text(x) == text(y) for x, y in zip(pair[0].rows, pair[1].rows, strict=True)]
    generated = all(text(row) is not None for side in pair for row in side.rows)
    return {
        "seed": _seeds(pair),
        "a": float(a.mean()),
        "b": float(b.mean()),
        "higher_in_a": [ids[i] for i in np.flatnonzero(a > b)],
        "higher_in_b": [ids[i] for i in np.flatnonzero(b > a)],
        "mcnemar_p": stats.mcnemar(a, b).p if binary else None,
        "same_text": sum(same) if generated else None,
        "rescored": int((np.array(same) & (a != b)).sum()) if generated else None,
    }


def text(row: Sample) -> str | None:
    """The text that was generated for an item, its turns one after the other; None where there is none."""
    answer = row.get("generated")
    if isinstance(answer, list):
        return "\n\n".join(map(str, answer))
    return answer if isinstance(answer, str) else None


def _examples(pairs: Pairs, change: np.ndarray, count: int) -> Iterator[Example]:
    """The items with the largest positive changes, summed over the seeds; each is shown at the seed of its largest."""
    gain = np.clip(change, 0, None)
    order = np.argsort(-gain.sum(axis=0), kind="stable")
    for item in [int(i) for i in order[:count] if gain[:, i].any()]:
        pair = pairs[int(gain[:, item].argmax())]
        row, other = (side.rows[item] for side in pair)
        yield {
            "id": row["id"],
            "seeds": _seeds(pair),
            "scores": [float(side.scores[item]) for side in pair],
            "prompt": str(row["prompt"]),
            "target": str(row.get("target", "")),
            "generated": [text(row), text(other)],
        }
