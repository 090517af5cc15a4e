"""The words around a table: its captions, its claims, and the Markdown version of its rows.

Every sentence that a table can print stands in the constants here; the data choose and fill them.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pissa_repro import methods
from pissa_repro.paper.published import RECIPE
from pissa_repro.plan.labels import by_reason
from pissa_repro.plan.validation import VALIDATION
from pissa_repro.report.tables import family
from pissa_repro.report.tables.grid import Row, grid
from pissa_repro.report.tables.uncertainty import uncertainty
from pissa_repro.results.measure import PERCENT, Measure
from pissa_repro.results.stats import SEVERAL_SEEDS
from pissa_repro.sources.prompt import DEFAULT

Pair = tuple[Row, str | None]  # a row and its claim
Claimed = tuple[list[Row], list[str | None]]  # rows and their claims
REFERENCE = "reference"  # the verdict on the difference of the row that others are compared with
NO_REFERENCE = "the reference diverged"
PAPER_RATE = RECIPE["learning_rate"]

TITLE = "## {model}, trained on {data}, scored on {benchmark} (task {task})"
PAPERS_RATE = "### At the paper's learning rate, {rate:g}"
OTHER_RATE = "### At learning rate {rate:g} (the paper's is {paper:g})"
TUNED_RATE = "### Each method at its best learning rate, chosen on task {task}"

CAPTION = {
    "accuracy": "Accuracy in percent on the {n} items of {benchmark}, by the published answer rule (metric `paper`).",
    "score": "Score (metric `paper` of the task file) in {unit} on the {n} items of {benchmark}; {way} is better.",
    "seeds": "Mean ± sample standard deviation over {seeds} seeds; ± does not hold the error of having only {n} items "
    "({error}, column score_stderr_items of the CSV).",
    "seed": "One seed: the spread over seeds is not measured. The standard error over items is {error}.",
    "one item, seeds": "There is one item: its error is not known, and methods are not compared; ± is the sample "
    "standard deviation over seeds.",
    "one item, seed": "There is one item and one seed: no spread is known, and methods are not compared.",
    "difference": "Difference: {points} to {reference} (same base and rank, {rate} learning rate; full FT "
    "against its largest rank), with a 95 % interval from a paired bootstrap over {resampled}.",
    "no reference": "No difference for {without}: there is no {plain} with default options, no `lora:` fields and no "
    "override of its own on the same base and rank{at_rate}.",
    "several": "No difference for {without}: {references} have the same definition, and none of them is the reference.",
    "diverged": "Diverged: the loss or its gradient was no finite number, and the training ended there. Such a row has "
    "no mean: one over the other seeds would be of the lucky ones.",
    "overrides": "By overrides of the config: {changes}.",
    "seen": "Of these items, {seen} have a prompt that the training data have, too: they test memory.",
    "prompt": "The prompt is `{prompt}` (docs/reference/config.md), not the released one.",
    "prompts": "Not by the released prompt: {named}.",
    "base": "{names}: {what} before any training, asked by the same prompt.",
    "not_published": "No published numbers beside these: {reason}.",
}
READING = {  # sentences that hold for every part, once at the end
    "interval": "An interval that holds 0 shows no difference; it does not show equality.",
    "columns": "Final loss: mean over the last tenth of the training steps. Error reduction: of the quantization "
    "error's nuclear norm against plain quantization, mean over projection types. Memory: peak of the training "
    "process, on a GPU from the first step on.",
    "no items": "Without an error over items: {columns}.",
    "published": "Paper: the published {name} and whether ours agrees with it, by the 95 % interval of the difference "
    "(docs/reproduction/verdicts.md); the notes say where it stands. Tier: how the published number is known. A "
    "verdict after Holm is corrected for all {compared} comparisons with published numbers in the table.",
    "third": "Third party: numbers of others at this setting, as far as theirs is known; nothing is compared with "
    "them.",
}
CLAIM = (
    "- {method} against {reference} ({place}): {name} {difference:+.{digits}f} {points} [{low:+.{digits}f}, "
    "{high:+.{digits}f}], {verdict}; final loss {loss}."
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


def claim(row: Row, base: Row, losses: tuple[list[float], list[float]]) -> str:
    """One line on a row against its reference: score and final loss. losses: by seed, of both."""
    deltas = [ours - other for ours, other in zip(*losses, strict=True)]
    mean = sum(deltas) / len(deltas)
    kind = "equal" if abs(mean) < 5e-5 else "lower" if mean < 0 else "higher"
    loss = LOSS[kind].format(by=abs(mean), count=sum(delta < 0 for delta in deltas), seeds=len(deltas))
    return CLAIM.format(
        method=row["method"], reference=base["method"], place=_place(row, base), difference=row["diff_to_lora"],
        low=row["diff_low"], high=row["diff_high"], verdict=row["diff_verdict"], loss=loss, **_words(row["measure"]),
    )  # fmt: skip


def _words(shown: Measure) -> dict[str, Any]:
    """How a sentence speaks of scores of this measure."""
    return {"name": shown.name, "points": shown.points, "digits": shown.digits}


def _place(row: Row, base: Row) -> str:
    rates = (row["learning_rate"], base["learning_rate"])
    words = [f"rank {base['rank']}" if row["rank"] else f"of rank {base['rank']}"]
    words += [base["quant"]] if base["quant"] != "none" else []
    words += [f"at rate {rates[0]:g} against {rates[1]:g}"] if rates[0] != rates[1] else []
    return ", ".join(words)


def markdown(swept: Claimed, tuned: Claimed, others: Mapping[Any, list[str]], zero: list[Row]) -> str:
    """The table as Markdown: one part for each model, training data and task, in it one for each rate.

    swept: the rows as in the CSV, each with a claim or None where it is compared with nothing; tuned: the rows at the
    rates that were chosen on validation items, with their own claims; others: what follows, by "place"; zero: the rows
    of bases as they are, which stand first in each part of their place.
    """
    text, rows = [], swept[0]
    for place in dict.fromkeys(row["place"] for row in rows):
        here, there, first = _at(place, *swept), _at(place, *tuned), [row for row in zero if row["place"] == place]
        task = here[0][0]["task"]
        text.append(TITLE.format(**here[0][0]))
        rates = {row["learning_rate"] for row, _ in here}
        for rate in sorted(rates, key=lambda rate: (rate != PAPER_RATE, rate)):
            heading = PAPERS_RATE if rate == PAPER_RATE else OTHER_RATE
            text.append(heading.format(rate=rate, paper=PAPER_RATE))
            text += part([pair for pair in here if pair[0]["learning_rate"] == rate], first)
        if len(rates) > 1 and there:
            text += [TUNED_RATE.format(task=task + VALIDATION), *part(there, first, tuned=True)]
        elif len(rates) > 1 and not task.endswith(VALIDATION):
            text.append(NO_TUNED_RATE.format(task=task))
        text += others.get(place, [])
    return "\n\n".join([*text, reading(rows)]) + "\n"


def reading(rows: list[Row]) -> str:
    """How to read the parts of a table."""
    shown = {"columns", "no items"}
    shown |= {"interval"} if any(row.get("diff_to_lora") is not None for row in rows) else set()
    shown |= {"published"} if any(row["paper_value"] is not None for row in rows) else set()
    shown |= {"third"} if any(row["third_party"] for row in rows) else set()
    second = (row["second_metric"] for row in rows if row["second_metric"])
    reduced = ["error reduction"] if any(row["error_reduction_percent"] is not None for row in rows) else []
    columns = ", ".join([*dict.fromkeys(second), *reduced, "time"])
    words = _words(rows[0]["measure"]) | {"columns": columns, "compared": family.size(rows, "verdict_p")}
    return " ".join(sentence.format(**words) for name, sentence in READING.items() if name in shown)


def _at(place: tuple[str, str, str], rows: list[Row], claims: list[str | None]) -> list[Pair]:
    return [(row, claim) for row, claim in zip(rows, claims, strict=True) if row["place"] == place]


def part(pairs: list[Pair], first: list[Row], tuned: bool = False) -> list[str]:
    """Table, claims, caption and notes of some rows, which share a learning rate unless it was tuned; first: bases."""
    rows = [row for row, _ in pairs]
    compared = any(row["paper_value"] is not None for row in rows)
    claims = "\n".join(claim for _, claim in pairs if claim)
    notes = dict.fromkeys(f"- {row['method']}{_at_rank(row)}: {row['note']}." for row in rows) if compared else ()
    words = " ".join([caption(rows, compared, tuned), *bases(first)])
    texts = (grid([*first, *rows], compared, tuned), claims, words, "\n".join(notes))
    return [text for text in texts if text]


def _at_rank(row: Row) -> str:
    return f" (rank {row['rank']})" if row["rank"] else ""


def caption(rows: list[Row], compared: bool, tuned: bool) -> str:
    """What the table shows, over how many seeds and items, and which uncertainty."""
    seeds, shown = rows[0]["seeds"], rows[0]["measure"]
    parts, words = scored(rows), _words(shown)
    words |= {"rate": "own", "at_rate": ""} if tuned else {"rate": "same", "at_rate": ", at the same learning rate"}
    if any(row.get("diff_to_lora") is not None for row in rows):
        names = dict.fromkeys(row["method"] for row in rows if _is_reference(row))
        words |= {"reference": " and ".join(names), "resampled": SEVERAL_SEEDS if seeds > 1 else "items"}
        words["points"] = "percentage points" if shown.unit == PERCENT else shown.points
        parts.append(CAPTION["difference"].format(**words))
    parts += uncertainty(rows)
    parts += [CAPTION[kind].format(**words, **more) for kind, more in _alone(rows)]
    parts += diverged(rows)
    if changes := by_reason((row["method"], row["reasons"]) for row in rows):
        parts.append(CAPTION["overrides"].format(changes="; ".join(changes)))
    parts += [*prompts(rows), *seen(rows)]
    if not compared:
        reasons = "; ".join(dict.fromkeys(row["note"] for row in rows))
        parts.append(CAPTION["not_published"].format(reason=reasons))
    return " ".join(parts)


def bases(rows: list[Row]) -> list[str]:
    """What the rows of bases are, where there are any."""
    if not rows:
        return []
    quantized = any(row["quant"] != "none" for row in rows)
    what = "the model (quantized, where its row says so)" if quantized else "the model"
    return [CAPTION["base"].format(names=_listed([row["method"] for row in rows]).capitalize(), what=what)]


def scored(rows: list[Row]) -> list[str]:
    """What the scores of rows are, and which uncertainty they have; nothing where all trainings diverged."""
    first = max(rows, key=lambda row: row["n"])  # a row of which all seeds diverged may know of no items
    if not first["n"]:
        return []
    seeds, shown = rows[0]["seeds"], rows[0]["measure"]
    items = [row["score_stderr_items"] for row in rows if row["score_stderr_items"] is not None]
    words = {"n": first["n"], "benchmark": first["benchmark"], "seeds": seeds, "unit": shown.unit, **_words(shown)}
    known = max(items, default=0)  # 0: no two items of a run differ, of which no error can be taken
    words["error"] = (
        f"about {known:.{shown.digits - 1}f} {words['points']}" if known else "not known: all items score alike"
    )
    words["way"] = "higher" if shown.higher_is_better else "lower"
    kind = "accuracy" if shown.unit == PERCENT and shown.higher_is_better else "score"
    spread = ("one item, " if first["n"] == 1 else "") + ("seeds" if seeds > 1 else "seed")
    uncertain = [CAPTION[spread].format(**words)] if items or first["n"] == 1 else []  # else no row has a mean
    return [CAPTION[kind].format(**words), *uncertain]


def diverged(rows: list[Row]) -> list[str]:
    """What the word means, where a row says it."""
    return [CAPTION["diverged"]] if any(row.get("diverged") for row in rows) else []


def prompts(rows: list[Row]) -> list[str]:
    """By which prompts rows were asked, where that is not the released one."""
    used = {row["prompt"] for row in rows}
    if used == {DEFAULT}:
        return []
    if len(used) == 1:
        return [CAPTION["prompt"].format(prompt=used.pop())]
    others = (f"{_named(row)} (`{row['prompt']}`)" for row in rows if row["prompt"] != DEFAULT)
    return [CAPTION["prompts"].format(named=", ".join(dict.fromkeys(others)))]


def seen(rows: list[Row]) -> list[str]:
    """How many of the scored items the training had seen, where it had any."""
    count = max(row["seen_in_training"] for row in rows)
    return [CAPTION["seen"].format(seen=count)] if count else []


def _is_reference(row: Row) -> bool:
    return row.get("diff_verdict") == REFERENCE


def _alone(rows: list[Row]) -> Iterator[tuple[str, dict[str, str]]]:
    """Which rows have no difference although there are items enough, as captions and their words."""
    without = [row for row in rows if row["references"] is not None and not row.get("diff_verdict")]
    none = [_named(row) for row in without if not row["references"]]
    if none:
        plain = " or ".join(methods.display(name, "none") for name in methods.references())
        yield "no reference", {"without": _listed(none), "plain": plain}
    several: dict[str, list[str]] = {}
    for row in without:
        if row["references"]:
            several.setdefault(_listed(sorted(row["references"])), []).append(_named(row))
    for names, alone in several.items():
        yield "several", {"without": _listed(alone), "references": names}


def _named(row: Row) -> str:
    return row["method"] + (f" of rank {row['rank']}" if row["rank"] else "")


def _listed(names: list[str]) -> str:
    *most, last = dict.fromkeys(names)
    return f"{', '.join(most)} and {last}" if most else last
