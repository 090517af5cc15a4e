"""The table of a sweep: a row for each setting over all seeds, its difference to LoRA, and the published number."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pissa_repro.paper.verdict import compare
from pissa_repro.paper.words import Ours
from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.tables import captions, elsewhere, others
from pissa_repro.report.tables.columns import COLUMNS, names, origin, scores
from pissa_repro.report.tables.table import Table
from pissa_repro.results import stats
from pissa_repro.results.measure import verdict
from pissa_repro.results.rows import Line, at_best_rate, lines, read_scores, references
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import read_json

GIB = 2**30


def table(sweep: Sweep, results: Path) -> Table:
    """The table of a sweep whose tasks all have the same measure."""
    all_lines, adopted = lines(sweep, read_scores(paths.scores(results)), results)
    hashes = fetched(sweep, results)
    rows, claims = build(sweep, all_lines, hashes)
    best = build(sweep, at_best_rate(all_lines), hashes, same_rate=False)
    taken, read = [elsewhere.row(sweep, line) for line in adopted], others.rows(sweep)
    text = captions.markdown(rows, claims, *best, others.together(elsewhere.parts(taken), others.parts(read)))
    return Table(tuple(COLUMNS), [*rows, *taken, *read], text)


def fetched(sweep: Sweep, results: Path) -> dict[str, str]:
    """Hash of the rows of each dataset that was fetched."""
    records = {name: paths.data(name, results) for name in sweep.config["datasets"]}
    return {name: read_json(path)["sha256"] for name, path in records.items() if path.exists()}


def difference(sweep: Sweep, line: Line, base: Line | None) -> stats.Difference | None:
    """Score of a row minus that of its reference, as scored; None without a reference."""
    if base is None:
        return None
    labels = (sweep.display(line.first), sweep.display(base.first))
    seeds = [[cell.seed for cell in side.cells] for side in (line, base)]
    if seeds[0] != seeds[1]:
        raise UserError(f"paired comparison: {labels[0]} has seeds {seeds[0]}, {labels[1]} has {seeds[1]}.")
    return stats.paired_bootstrap(line.scores, base.scores, labels)


def row(sweep: Sweep, line: Line, base: Line | None, hashes: Mapping[str, str]) -> dict[str, Any]:
    """All columns of one row; None where there is no number."""
    cell = line.first
    return {
        **names(sweep, cell, line.task),
        "rank": cell.rank or None,
        "learning_rate": cell.learning_rate,
        "seeds": len(line.cells),
        "n": line.scores.shape[1],
        **_training(line),
        **scores(line),
        **_difference(line, difference(sweep, line, base)),
        **_published(sweep, line, hashes),
        **origin(line),
    }


def _training(line: Line) -> dict[str, Any]:
    loss, spread = stats.mean_std(line.numbers("final_loss"))
    peak = line.numbers("gpu_memory_bytes") or line.numbers("memory_bytes")
    reduction = line.numbers("error_reduction")
    return {
        "trainable_parameters": int(line.numbers("trainable_parameters")[0]),
        "final_loss_mean": loss,
        "final_loss_std": spread,
        "error_reduction_percent": stats.mean_std(reduction)[0] if reduction else None,
        "train_seconds_mean": stats.mean_std(line.numbers("train_seconds"))[0],
        "peak_memory_gib": max(peak) / GIB if peak else None,
    }


def _difference(line: Line, paired: stats.Difference | None) -> dict[str, Any]:
    if paired is None:
        return {}
    numbers = {"diff_to_lora": paired.mean, "diff_low": paired.low, "diff_high": paired.high}
    word = verdict(paired.verdict, line.measure.higher_is_better)
    return {**{key: line.measure.scale * value for key, value in numbers.items()}, "diff_verdict": word}


def _published(sweep: Sweep, line: Line, hashes: Mapping[str, str]) -> dict[str, Any]:
    scored = line.measure.scale * line.scores
    mean, spread = stats.mean_std(scored.mean(axis=1))
    ours = Ours(mean, stats.stderr_total(scored), scored.shape[1], seeds=len(scored), spread=spread)
    comparison = compare(sweep, line.first, line.task, ours, hashes)
    return {
        "paper_value": comparison.value,
        "paper_std": comparison.std,
        "verdict": comparison.verdict,
        "note": comparison.note,
    }


def build(
    sweep: Sweep, all_lines: list[Line], hashes: Mapping[str, str], same_rate: bool = True
) -> tuple[list[dict[str, Any]], list[str | None]]:
    """The rows with all columns, and what each says against its reference in words (None without one).

    Each row also says, outside the columns, its "place" (task, model, training data), the labels of the rows that may
    be its reference ("references", None where nothing is compared), the "reasons" of its overrides, its "prompt" and
    "measure", and how many items have a prompt of the training's ("seen_in_training").
    """
    # Over one item an interval would have no width, and any difference would look sure.
    found = [references(sweep, line, all_lines, same_rate) if line.scores.shape[1] > 1 else None for line in all_lines]
    pairs = [
        (line, fit[0] if fit and len(fit) == 1 and fit[0] is not line else None)
        for line, fit in zip(all_lines, found, strict=True)
    ]
    rows = [
        row(sweep, line, base, hashes) | _beside(sweep, line, fit)
        for (line, base), fit in zip(pairs, found, strict=True)
    ]
    words = [
        None if base is None else _claim(rows, all_lines.index(line), all_lines.index(base), all_lines)
        for line, base in pairs
    ]
    return rows, words


def _beside(sweep: Sweep, line: Line, fit: list[Line] | None) -> dict[str, Any]:
    """What a row says outside the columns; and in its verdict on the difference, that it is the reference."""
    return {
        "place": (line.task, line.first.model, line.first.data),
        "references": None if fit is None else [sweep.display(other.first) for other in fit],
        "reasons": line.first.reasons,
        "prompt": dict(line.first.train)["prompt"],
        "measure": line.measure,
        "seen_in_training": int(max(line.numbers("seen_in_training"), default=0)),
    } | ({"diff_verdict": captions.REFERENCE} if fit == [line] else {})


def _claim(rows: list[dict[str, Any]], index: int, base_index: int, all_lines: list[Line]) -> str:
    losses = (all_lines[index].numbers("final_loss"), all_lines[base_index].numbers("final_loss"))
    return captions.claim(rows[index], rows[base_index], losses)
