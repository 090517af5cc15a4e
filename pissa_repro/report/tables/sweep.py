"""The table of a sweep: a row for each setting over all seeds, its difference to LoRA, and the published number."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pissa_repro.paper import third_party
from pissa_repro.paper.verdict import compare
from pissa_repro.paper.words import Ours
from pissa_repro.plan.sweep import Sweep
from pissa_repro.plan.validation import VALIDATION
from pissa_repro.report.tables import captions, elsewhere, family, others
from pissa_repro.report.tables.columns import COLUMNS, names, origin, scores
from pissa_repro.report.tables.table import Table
from pissa_repro.report.tables.two_rates import common_rate
from pissa_repro.report.tables.two_rates import row as one_setting
from pissa_repro.report.tables.two_rates import text as two_columns
from pissa_repro.results import multiple, noise, stats
from pissa_repro.results.measure import PERCENT, verdict
from pissa_repro.results.noise import Noise
from pissa_repro.results.rates import over_rates
from pissa_repro.results.rows import Line, at_best_rate, chosen_rates, lines, read_scores, references
from pissa_repro.results.table import COLUMNS as SCORES
from pissa_repro.results.table import rows as recorded
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import read_json

GIB = 2**30


def table(sweep: Sweep, results: Path) -> Table:
    """The table of a sweep whose tasks all have the same measure."""
    all_lines, taken = lines(sweep, read_scores(paths.scores(results)), results)
    hashes = fetched(sweep, results)
    rows, claims = build(sweep, all_lines, hashes)
    best = build(sweep, at_best_rate(all_lines), hashes, same_rate=False)
    family.correct([*rows, *best[0]])
    zero = [others.row(sweep, line) for line in taken if others.is_base(line)]
    adopted = [others.row(sweep, line) for line in taken if not others.is_base(line)]
    read = elsewhere.rows(sweep)
    below = elsewhere.together(others.parts(adopted), elsewhere.parts(read))
    text = captions.markdown((rows, claims), best, below, zero)
    if best[0] and len(sweep.config["sweep"]["learning_rates"]) > 1:  # else no rate was chosen
        scored = [line for line in all_lines if not line.task.endswith(VALIDATION)]
        settings = over_rates(sweep, scored, chosen_rates(all_lines), common_rate(sweep))
        text += "\n" + two_columns(sweep, settings, [one_setting(sweep, one) for one in settings])
    return Table(tuple(COLUMNS), [*zero, *rows, *adopted, *read], text)


def verdict_of(sweep: Sweep, results: Path) -> dict[str, Any]:
    """The row of a sweep that has one, from the records behind it; its quantization error is not asked for."""
    made = recorded(sweep, results, errors=False)
    records = ({key: "" if row.get(key) is None else str(row[key]) for key in SCORES} for row in made)
    found, _ = lines(sweep, {(row["cell"], row["task"], row["metric"]): row for row in records}, results)
    (row,), _ = build(sweep, found, fetched(sweep, results))
    return row


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


def row(sweep: Sweep, line: Line, base: Line | None, hashes: Mapping[str, str], floor: Noise) -> dict[str, Any]:
    """All columns of one row; None where there is no number."""
    cell, paired = line.first, difference(sweep, line, base)
    return {
        **names(sweep, cell, line.task),
        "rank": cell.rank or None,
        "learning_rate": cell.learning_rate,
        "seeds": len(line.cells),
        "diverged": line.diverged or None,
        "n": line.scores.shape[1],
        **_training(line),
        **scores(line),
        "noise_floor": floor.score,
        **_difference(line, paired),
        **_published(sweep, line, hashes, floor),
        **origin(line),
    }


def _training(line: Line) -> dict[str, Any]:
    loss, spread = (None, None) if line.diverged else stats.mean_std(line.numbers("final_loss"))
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
    scaled = {key: line.measure.scale * value for key, value in numbers.items()}
    points = line.measure.unit == PERCENT
    return scaled | {
        "diff_verdict": verdict(paired.verdict, line.measure.higher_is_better),
        "diff_equivalent": multiple.within(scaled["diff_low"], scaled["diff_high"]) if points else None,
        "diff_p": paired.p,
    }


def _published(sweep: Sweep, line: Line, hashes: Mapping[str, str], floor: Noise) -> dict[str, Any]:
    scored = line.measure.scale * line.scores
    seeds, n = scored.shape
    ours = Ours(math.nan, None, n, seeds=seeds, loss=math.nan, noise=floor.score, loss_noise=floor.loss)
    if not line.diverged:
        mean, spread = stats.mean_std(scored.mean(axis=1))
        loss = stats.mean_std(line.numbers("final_loss"))[0]
        ours = replace(ours, mean=mean, stderr=stats.stderr_total(scored), spread=spread, loss=loss)
    comparison = compare(sweep, line.first, line.task, ours, hashes)
    reported = third_party.beside(sweep, line.first, line.task)
    return {
        "paper_loss": comparison.loss,
        "loss_verdict": comparison.loss_verdict,
        "paper_value": comparison.value,
        "paper_std": comparison.std,
        "paper_tier": comparison.tier,
        "verdict": comparison.verdict,
        "verdict_p": comparison.p,
        "note": comparison.note,
        "third_party": "; ".join(map(str, reported)) or None,
    }


def build(
    sweep: Sweep, all_lines: list[Line], hashes: Mapping[str, str], same_rate: bool = True
) -> tuple[list[dict[str, Any]], list[str | None]]:
    """The rows with all columns, and what each says against its reference in words (None without one).

    Each row also says, outside the columns, its "place" (task, model, training data), the labels of the rows that may
    be its reference ("references", None where nothing is compared), the "reasons" of its overrides, its "prompt" and
    "measure", how many items have a prompt of the training's ("seen_in_training"), its noise "floor", its "line" and
    the "base" that it is compared with, and the sizes of the families of comparisons (family.py).
    """
    # Over one item an interval would have no width, and any difference would look sure.
    # Nor is a training that diverged compared with anything, or anything with it.
    found = [
        references(sweep, line, all_lines, same_rate) if line.scores.shape[1] > 1 and not line.diverged else None
        for line in all_lines
    ]
    pairs = [
        (line, fit[0] if fit and len(fit) == 1 and fit[0] is not line and not fit[0].diverged else None)
        for line, fit in zip(all_lines, found, strict=True)
    ]
    floors = noise.by_place(sweep, all_lines)
    rows = [
        row(sweep, line, base, hashes, floors[noise.place(line)])
        | _beside(sweep, line, fit)
        | {"floor": floors[noise.place(line)], "line": line, "base": base}
        for (line, base), fit in zip(pairs, found, strict=True)
    ]
    family.correct(rows)
    words = [
        None if base is None else _claim(rows, all_lines.index(line), all_lines.index(base), all_lines)
        for line, base in pairs
    ]
    return rows, words


def _beside(sweep: Sweep, line: Line, fit: list[Line] | None) -> dict[str, Any]:
    """What a row says outside the columns; and in place of a difference, that it is the reference, or lost it."""
    alone = fit is not None and len(fit) == 1 and fit[0].diverged
    word = captions.REFERENCE if fit == [line] else captions.NO_REFERENCE if alone else None
    return {
        "place": noise.place(line),
        "references": None if fit is None else [sweep.display(other.first) for other in fit],
        "reasons": line.first.reasons,
        "prompt": dict(line.first.train)["prompt"],
        "measure": line.measure,
        "seen_in_training": int(max(line.numbers("seen_in_training"), default=0)),
    } | ({"diff_verdict": word} if word else {})


def _claim(rows: list[dict[str, Any]], index: int, base_index: int, all_lines: list[Line]) -> str:
    losses = (all_lines[index].numbers("final_loss"), all_lines[base_index].numbers("final_loss"))
    return captions.claim(rows[index], rows[base_index], losses)
