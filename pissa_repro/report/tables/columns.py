"""The columns that every row of a sweep's table has: what it is of, its scores, and the commits behind them."""

from collections.abc import Iterable
from typing import Any

from pissa_repro.plan.adopted import Adopted
from pissa_repro.plan.cells import Cell
from pissa_repro.plan.sweep import Sweep
from pissa_repro.results import stats
from pissa_repro.results.points import without_mean
from pissa_repro.results.rows import Scored

PUBLISHED = (  # the numbers of the paper and of others beside a row, and what is said of them
    "paper_loss loss_verdict paper_value paper_std paper_tier verdict verdict_p verdict_p_holm verdict_holm note "
    "third_party"
).split()
COLUMNS = [
    *(
        "model benchmark data task method config_method rank quant learning_rate seeds diverged n "
        "trainable_parameters final_loss_mean final_loss_std unit score_mean score_std score_stderr_items "
        "second_metric second_mean second_std noise_floor diff_to_lora diff_low diff_high diff_verdict "
        "diff_equivalent diff_p diff_p_holm diff_holm error_reduction_percent train_seconds_mean peak_memory_gib"
    ).split(),
    *PUBLISHED,
    "commit",
    "dirty",
]


NUMBERS = "score_mean score_std score_stderr_items second_metric second_mean second_std".split()


def names(sweep: Sweep, cell: Cell | Adopted, task: str) -> dict[str, Any]:
    """The columns that say what a row is of, as a reader knows it."""
    config = sweep.config
    test = config["tasks"][task]["dataset"]
    return {
        "model": config["models"][cell.model].get("display", cell.model),
        "benchmark": config["datasets"][test].get("display", test),
        "data": config["datasets"][cell.data].get("display", cell.data),
        "task": task,
        "method": sweep.display(cell),
        "config_method": cell.method,
        "quant": cell.quant,
    }


def scores(line: Scored) -> dict[str, Any]:
    """Mean and spreads of the paper's metric in its unit, and of the second one; none where a training diverged."""
    shown = line.measure
    if line.diverged:
        return {"unit": shown.unit, **dict.fromkeys(NUMBERS)}
    scores = shown.scale * line.scores
    mean, spread = stats.mean_std(scores.mean(axis=1))
    second = [shown.second_scale * value for value in line.second]
    return {
        "unit": shown.unit,
        "score_mean": mean,
        "score_std": spread,
        "score_stderr_items": stats.stderr_items(scores),
        "second_metric": shown.second if second else None,
        **dict(zip(("second_mean", "second_std"), stats.mean_std(second) if second else (None, None), strict=True)),
    }


def diverged(count: int, seeds: int) -> str:
    """What stands in the place of a mean over seeds of which some have none; nothing where all have one."""
    return f"diverged ({count} of {seeds} seed{'s' if seeds > 1 else ''})" if count else ""


def no_mean(rows: Iterable[dict[str, Any]]) -> str:
    """What the caption of a figure says of the rows of which a training diverged; nothing where there are none."""
    lost = [row for row in rows if row.get("diverged")]
    rates = len({row["learning_rate"] for row in lost}) > 1
    words = []
    for row in lost:
        rank = f" rank {row['rank']}" if row["rank"] else ""
        rate = f" at {row['learning_rate']:g}" if rates else ""
        words.append(f"{row['method']}{rank}{rate} ({row['diverged']} of {row['seeds']} seeds)")
    return without_mean(words)


def origin(line: Scored) -> dict[str, Any]:
    """The commits behind a row, and whether any was dirty."""
    commits = dict.fromkeys(commit for facts in line.facts for commit in facts["commit"].split())
    dirty = {facts["dirty"] for facts in line.facts if facts["dirty"]}
    return {"commit": " ".join(commits), "dirty": "True" in dirty if dirty else None}
