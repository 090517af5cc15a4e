"""The methods of a sweep side by side: what they reach, what they cost, how far they move, and what is forgotten."""

from pathlib import Path
from statistics import fmean, median

import numpy as np

from pissa_repro.plan.labels import by_reason
from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.tables import captions, family, others
from pissa_repro.report.tables.columns import COLUMNS as SWEPT
from pissa_repro.report.tables.columns import PUBLISHED
from pissa_repro.report.tables.grid import Column, difference, drawn, number, score_of
from pissa_repro.report.tables.sweep import build, fetched
from pissa_repro.report.tables.table import Row, Table
from pissa_repro.report.tables.uncertainty import uncertainty
from pissa_repro.results import stats
from pissa_repro.results.costs import Costs
from pissa_repro.results.rows import Line, Other, lines, read_scores, references
from pissa_repro.runtime import paths

ADDED = (
    "start_seconds start_memory_gib statistics_seconds statistics_memory_gib step_seconds step_to_lora "
    "step_to_lora_low step_to_lora_high update text text_score_before text_score forgotten forgotten_low "
    "forgotten_high perplexity_before perplexity"
).split()
COLUMNS = tuple(name for name in (*SWEPT, *ADDED) if name not in PUBLISHED)
TEXT = "perplexity"  # the metric of what may be forgotten
UNTRAINED = 1e-5  # a row whose update is below it is the model before its training
CAPTION = {
    "difference": "Difference: {points} to {reference} on the same base and of the same rank, each at its own learning "
    "rate, with a 95 % interval from a paired bootstrap over {resampled}.",
    "start": "Start: seconds of making the factors, the mean over starts; a decomposition is kept, so that the first "
    "method that asks for it pays. Statistics: seconds of measuring what the start has to know of data; all methods "
    "that ask for the same share it.",
    "step": "Step: seconds of a training step over those of {reference} on the same base, the median over seeds and "
    "the range. Both were trained on the same kind of machine, which may have had other work: differences of up to a "
    "half say nothing here (benchmarks/methods.py measures it in turns).",
    "update": "Update: |dW| / |W| from the start of the training to its end, the mean over modules and seeds.",
    "memory": "Memory: peak of the training process, on a GPU from the first step on.",
    "forgotten": "Forgotten: nats per token on {text} after the training, less those of the base before it "
    "({before}), with a 95 % interval as above. On a quantized base it holds what the quantization costs.",
}


def baselines(sweep: Sweep, results: Path, heading: str) -> Table:
    """The rows of `rows_of`, bases first. Raises as it does."""
    zero, rows = rows_of(sweep, results)
    places = dict.fromkeys(row["place"] for row in rows)
    parts = [
        _part(heading, *([row for row in some if row["place"] == place] for some in (zero, rows))) for place in places
    ]
    return Table(COLUMNS, zero + rows, "\n\n".join(parts) + "\n")


def rows_of(sweep: Sweep, results: Path) -> tuple[list[Row], list[Row]]:
    """The rows of bases as they are, and one for each setting over its seeds, of each task but those of perplexity:
    those are columns.

    Raises UserError for a record that is missing, or of another config, weights or rows.
    """
    found, taken = lines(sweep, read_scores(paths.scores(results)), results)
    texts, scored = ([line for line in found if (line.measure.second == TEXT) is text] for text in (True, False))
    bases = [line for line in taken if others.is_base(line)]
    costs = Costs(sweep, results)
    rows, _ = build(sweep, scored, fetched(sweep, results), same_rate=False)
    for row, line in zip(rows, scored, strict=True):
        row |= _costs(sweep, costs, line, scored) | _text(sweep, costs, line, texts, bases)
    zero = [others.row(sweep, line) | _text_of(sweep, line, bases) for line in bases if line.measure.second != TEXT]
    return zero, rows


def _costs(sweep: Sweep, costs: Costs, line: Line, scored: list[Line]) -> Row:
    """Start, step and update; the step also beside that of the one reference, where there is one."""
    row = {**costs.start(line.cells), "step_seconds": costs.step(line.cells), "update": costs.update(line.cells)}
    beside = references(sweep, line, scored, same_rate=False)
    if len(beside) != 1 or not (ratios := costs.step_ratios(line.cells, beside[0].cells)):
        return row
    return row | {"step_to_lora": median(ratios), "step_to_lora_low": min(ratios), "step_to_lora_high": max(ratios)}


def _text_of(sweep: Sweep, base: Other, bases: list[Other]) -> Row:
    """How well a base as it is predicts the first task of text."""
    texts = (text for text in bases if text.measure.second == TEXT and text.adopted == base.adopted)
    return next((_predicted(sweep, text) for text in texts), {})


def _predicted(sweep: Sweep, text: Line | Other) -> Row:
    test = sweep.config["tasks"][text.task]["dataset"]
    named = sweep.config["datasets"][test].get("display", test)
    return {"text": named, "text_score": text.scores.mean(), "perplexity": fmean(text.second)}


def _text(sweep: Sweep, costs: Costs, line: Line, texts: list[Line], bases: list[Other]) -> Row:
    """How well the cells of a row predict the first task of text, and how much worse than the base before it."""
    after = next((text for text in texts if text.cells == line.cells), None)
    if after is None or after.diverged:
        return {}
    row = _predicted(sweep, after)
    place = after.task, line.first.model, line.first.data, "none"
    plain = (one for one in bases if (one.task, one.adopted.model, one.adopted.data, one.adopted.quant) == place)
    moved_by_nothing = (text for text in texts if _is_before(costs, text, after))
    before: Line | Other | None = next(plain, None) or next(moved_by_nothing, None)
    if before is None or before is after:
        return row
    lost = stats.paired_bootstrap(after.scores, np.broadcast_to(before.scores, after.scores.shape))  # a base: no seeds
    row |= {"text_score_before": before.scores.mean(), "perplexity_before": fmean(before.second)}
    return row | {"forgotten": lost.mean, "forgotten_low": lost.low, "forgotten_high": lost.high}


def _is_before(costs: Costs, text: Line, after: Line) -> bool:
    """Whether a row is the base of another one before the training: not quantized, and not moved by its own."""
    if (text.task, text.first.model, text.first.data, text.first.quant) != (
        after.task, after.first.model, after.first.data, "none",
    ):  # fmt: skip
        return False
    moved = costs.update(text.cells)
    return moved is not None and moved < UNTRAINED and text.scores.shape == after.scores.shape


def _part(heading: str, zero: list[Row], rows: list[Row]) -> str:
    """The rows of one task as Markdown: a heading, the table with the bases first, and how to read it."""
    title = f"## {heading}: {{model}}, trained on {{data}}, scored on {{benchmark}} (task {{task}})".format(**rows[0])
    words = " ".join([_caption(rows), *captions.bases(zero)])
    return "\n\n".join([title, drawn([*zero, *rows], _columns(rows[0])), words])


def _columns(first: Row) -> dict[str, Column]:
    """What the table shows, by the heads of its columns. first: any row."""
    shown = first["measure"]
    return {
        "method": lambda row: row["method"],
        "base": lambda row: row["quant"],
        "rank": lambda row: number(row["rank"], "{}"),
        "rate": lambda row: number(row["learning_rate"], "{:g}"),
        "trained parameters": lambda row: number(row["trainable_parameters"], "{:,}"),
        "final loss": lambda row: number(row["final_loss_mean"], "{:.4f}", row["final_loss_std"]),
        f"{shown.name}, {shown.symbol}": lambda row: score_of(row, f"{{:.{shown.digits}f}}"),
        f"difference, {shown.points}": lambda row: difference(row, shown.digits),
        "after Holm": lambda row: family.shown(row, "diff_p"),
        "start, s": lambda row: number(row.get("start_seconds"), "{:.2f}"),
        "statistics, s": lambda row: number(row.get("statistics_seconds"), "{:.1f}"),
        "step, times": lambda row: _ranged(row, "step_to_lora", "{:.2f}"),
        "memory, GiB": lambda row: number(row["peak_memory_gib"], "{:.2f}"),
        "update": lambda row: number(row.get("update"), "{:.2g}"),
        "perplexity": lambda row: number(row.get("perplexity"), "{:.3f}"),
        "forgotten, nats per token": lambda row: _ranged(row, "forgotten", "{:+.4f}"),
    }


def _ranged(row: Row, key: str, pattern: str) -> str:
    if row.get(key) is None:
        return ""
    middle, low, high = (pattern.format(row[name]) for name in (key, f"{key}_low", f"{key}_high"))
    return f"{middle} [{low}, {high}]"


def _caption(rows: list[Row]) -> str:
    """How to read the rows of one task: scores, differences, costs, and why a rate is another one."""
    parts = captions.scored(rows)
    names = " or ".join(dict.fromkeys(row["method"] for row in rows if row.get("diff_verdict") == captions.REFERENCE))
    words = {"points": rows[0]["measure"].points, "reference": names}
    words["resampled"] = stats.SEVERAL_SEEDS if rows[0]["seeds"] > 1 else "items"
    kinds = [*(["difference", "step"] if names else []), "start", "memory", "update"]
    parts += [CAPTION[kind].format(**words) for kind in kinds] + uncertainty(rows)
    if told := next((row for row in rows if row.get("text_score_before") is not None), None):
        before = f"{told['text_score_before']:.4f}, perplexity {told['perplexity_before']:.3f}"
        parts.append(CAPTION["forgotten"].format(text=told["text"], before=before))
    if changes := by_reason((row["method"], row["reasons"]) for row in rows):
        parts.append(captions.CAPTION["overrides"].format(changes="; ".join(changes)))
    return " ".join(parts + captions.diverged(rows) + captions.seen(rows))
