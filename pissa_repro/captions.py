"""The words around a table: its captions, its claims, and the Markdown version of its rows.

Every sentence that a table can print stands in the constants here; the data choose and fill them.
"""

from collections.abc import Callable
from typing import Any

from pissa_repro.lines import VALIDATION
from pissa_repro.published import RECIPE

Pair = tuple[dict[str, Any], str | None]  # a row and its claim
PAPER_RATE = RECIPE["learning_rate"]

TITLE = "## {model}, trained on {data}, scored on {benchmark} (task {task})"
PAPERS_RATE = "### At the paper's learning rate, {rate:g}"
OTHER_RATE = "### At learning rate {rate:g} (the paper's is {paper:g})"
TUNED_RATE = "### Each method at its best learning rate, chosen on task {task}"

CAPTION = {
    "seeds": "Accuracy in percent on the {n} items of {benchmark}, by the paper's answer rule. Mean ± sample standard "
    "deviation over {seeds} seeds; ± does not hold the error of having only {n} items (about {items:.1f} points, "
    "column accuracy_stderr_items of the CSV).",
    "seed": "Accuracy in percent on the {n} items of {benchmark}, by the paper's answer rule. One seed: the spread "
    "over seeds is not measured. The standard error over items is about {items:.1f} points.",
    "difference": "Difference: percentage points to {reference} (same base and rank, {rate} learning rate; full FT "
    "against its largest rank), with a 95 % interval from a paired bootstrap over {resampled}. An interval that holds "
    "0 shows no difference; it does not show equality.",
    "columns": "Final loss: mean over the last tenth of the training steps. Error reduction: of the quantization "
    "error's nuclear norm against plain quantization, mean over projection types. Memory: peak of the training "
    "process, on a GPU from the first step on.",
    "published": "Paper: the published accuracy and whether ours agrees with it (|ours - published| within 1.96 "
    "standard errors of both); the notes say where it stands.",
    "not_published": "No published numbers beside these: {reason}.",
}
CLAIM = (
    "- {method} against {reference} ({place}): accuracy {difference:+.2f} points [{low:+.2f}, {high:+.2f}], {verdict}; "
    "final loss {loss}."
)
LOSS = {
    "lower": "lower by {by:.4f} on average, lower in {count} of {seeds} seeds",
    "higher": "higher by {by:.4f} on average, lower in {count} of {seeds} seeds",
    "equal": "equal to four digits on average, lower in {count} of {seeds} seeds",
}
NO_TUNED_RATE = (
    'There is no part "each method at its best learning rate". The rate would have to be chosen on validation items, '
    "and this sweep scores none (task {task}-validation). Chosen on the test items, it would flatter every method."
)


def claim(row: dict[str, Any], base: dict[str, Any], losses: tuple[list[float], list[float]]) -> str:
    """One line on a row against its reference: accuracy and final loss. losses: by seed, of both."""
    deltas = [ours - other for ours, other in zip(*losses, strict=True)]
    mean = sum(deltas) / len(deltas)
    kind = "equal" if abs(mean) < 5e-5 else "lower" if mean < 0 else "higher"
    loss = LOSS[kind].format(by=abs(mean), count=sum(delta < 0 for delta in deltas), seeds=len(deltas))
    return CLAIM.format(
        method=row["method"], reference=base["method"], place=_place(row, base), difference=row["diff_to_lora"],
        low=row["diff_low"], high=row["diff_high"], verdict=row["diff_verdict"], loss=loss,
    )  # fmt: skip


def _place(row: dict[str, Any], base: dict[str, Any]) -> str:
    rates = [one["learning_rate"] for one in (row, base)]
    words = [f"rank {base['rank']}" if row["rank"] else f"of rank {base['rank']}"]
    words += [base["quant"]] if base["quant"] != "none" else []
    words += [f"at rate {rates[0]:g} against {rates[1]:g}"] if rates[0] != rates[1] else []
    return ", ".join(words)


def markdown(
    rows: list[dict[str, Any]], claims: list[str | None], best: list[dict[str, Any]], best_claims: list[str | None]
) -> str:
    """The table as Markdown: one part for each model, training data and task, in it one for each rate.

    rows: as in the CSV; claims: one a row, None where a row is compared with nothing; best: the rows
    at the rates that were chosen on validation items, with their own claims.
    """
    text = []
    for place in dict.fromkeys(row["place"] for row in rows):
        here, there = _at(place, rows, claims), _at(place, best, best_claims)
        task = here[0][0]["task"]
        text.append(TITLE.format(**here[0][0]))
        rates = {row["learning_rate"] for row, _ in here}
        for rate in sorted(rates, key=lambda rate: (rate != PAPER_RATE, rate)):
            heading = PAPERS_RATE if rate == PAPER_RATE else OTHER_RATE
            text.append(heading.format(rate=rate, paper=PAPER_RATE))
            text += part([pair for pair in here if pair[0]["learning_rate"] == rate])
        if len(rates) > 1 and there:
            text += [TUNED_RATE.format(task=task + VALIDATION), *part(there, tuned=True)]
        elif len(rates) > 1 and not task.endswith(VALIDATION):
            text.append(NO_TUNED_RATE.format(task=task))
    return "\n\n".join(text) + "\n"


def _at(place: tuple[str, str, str], rows: list[dict[str, Any]], claims: list[str | None]) -> list[Pair]:
    return [(row, claim) for row, claim in zip(rows, claims, strict=True) if row["place"] == place]


def part(pairs: list[Pair], tuned: bool = False) -> list[str]:
    """Table, claims, caption and notes of some rows, which share a learning rate unless it was tuned."""
    rows = [row for row, _ in pairs]
    compared = any(row["paper_value"] is not None for row in rows)
    claims = "\n".join(claim for _, claim in pairs if claim)
    notes = dict.fromkeys(f"- {row['method']}{_at_rank(row)}: {row['note']}." for row in rows) if compared else ()
    texts = (grid(rows, compared, tuned), claims, caption(rows, compared, tuned), "\n".join(notes))
    return [text for text in texts if text]


def _at_rank(row: dict[str, Any]) -> str:
    return f" (rank {row['rank']})" if row["rank"] else ""


def caption(rows: list[dict[str, Any]], compared: bool, tuned: bool) -> str:
    """What the table shows, over how many seeds and items, and which uncertainty."""
    first, seeds = rows[0], rows[0]["seeds"]
    items = max((row["accuracy_stderr_items"] or 0.0 for row in rows), default=0.0)
    words = {"n": first["n"], "benchmark": first["benchmark"], "seeds": seeds, "items": items}
    parts = [CAPTION["seeds" if seeds > 1 else "seed"].format(**words)]
    if any(row.get("diff_verdict") for row in rows):
        names = dict.fromkeys(row["method"] for row in rows if row["reference"])
        rate, drawn = "own" if tuned else "same", "items and seeds" if seeds > 1 else "items"
        parts.append(CAPTION["difference"].format(reference=" and ".join(names), rate=rate, resampled=drawn))
    parts.append(CAPTION["columns"])
    reasons = "; ".join(dict.fromkeys(row["note"] for row in rows))
    parts.append(CAPTION["published"] if compared else CAPTION["not_published"].format(reason=reasons))
    return " ".join(parts)


def grid(rows: list[dict[str, Any]], compared: bool, tuned: bool) -> str:
    """The rows as a Markdown table; a column without any number is left out."""
    hidden = (() if compared else PUBLISHED) + (() if tuned else (RATE,))
    columns = {name: [show(row) for row in rows] for name, show in SHOWN.items() if name not in hidden}
    columns = {name: values for name, values in columns.items() if any(values)}
    align = ["---" if name in LEFT else "---:" for name in columns]
    table = [list(columns), align, *zip(*columns.values(), strict=True)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in table)


def _number(value: float | None, pattern: str, spread: float | None = None) -> str:
    """The value, ± its spread where there is one; nothing for None."""
    if value is None:
        return ""
    return pattern.format(value) + (f" ± {pattern.format(spread)}" if spread is not None else "")


def _difference(row: dict[str, Any]) -> str:
    if row.get("diff_to_lora") is None:
        return "reference" if row["reference"] else ""
    return "{diff_to_lora:+.2f} [{diff_low:+.2f}, {diff_high:+.2f}] {diff_verdict}".format(**row)


RATE = "learning rate"
PUBLISHED = ("paper, %", "verdict")
LEFT = ("method", "base", "difference, points", "verdict")
SHOWN: dict[str, Callable[[dict[str, Any]], str]] = {
    "method": lambda row: row["method"],
    "base": lambda row: row["quant"],
    "rank": lambda row: _number(row["rank"], "{}"),
    RATE: lambda row: _number(row["learning_rate"], "{:g}"),
    "trained parameters": lambda row: _number(row["trainable_parameters"], "{:,}"),
    "final loss": lambda row: _number(row["final_loss_mean"], "{:.4f}", row["final_loss_std"]),
    "accuracy, %": lambda row: _number(row["accuracy_mean"], "{:.2f}", row["accuracy_std"]),
    "strict, %": lambda row: _number(row["strict_mean"], "{:.2f}", row["strict_std"]),
    "difference, points": _difference,
    "error reduction, %": lambda row: _number(row["error_reduction_percent"], "{:.1f}"),
    "time, s": lambda row: _number(row["train_seconds_mean"], "{:.0f}"),
    "memory, GiB": lambda row: _number(row["peak_memory_gib"], "{:.1f}"),
    "paper, %": lambda row: _number(row["paper_value"], "{:.2f}", row["paper_std"]),
    "verdict": lambda row: row["verdict"],
}
