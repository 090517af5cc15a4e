"""The text of a comparison of two scored cells: plain lines of at most 100 columns."""

import textwrap
from collections.abc import Iterator
from typing import Literal

from pissa_repro.results.comparison import Comparison, Example
from pissa_repro.results.stats import ALL_EQUAL, LEVEL

SideName = Literal["a", "b"]
SIDES: tuple[SideName, SideName] = ("a", "b")
WIDTH = 100
BEFORE = 40  # characters shown before the first difference
SHOWN = 250  # characters shown of a text that is not shown in full

ONE_SEED = "One seed: the interval is about other items, not about other seeds."
NOT_EQUAL = "The interval holds 0; that does not show that they are equal."
FEW = ", but only {count}; the exact test does not show it"
MCNEMAR = "McNemar's p: exact and two-sided, on the items that only one of the two gets right."
EACH_SEED = (
    " It is for each seed: the answers of several seeds to one item are not independent, so that adding them up would "
    "overstate the evidence."
)
DIRTY = "{sides} made with uncommitted changes: the commit does not say by which code."
RESCORED = "{count} items have the same text but another score: the scoring is not a function of the text."
WEIGHTED = (
    "The record of {side} says {recorded}, not the mean over items {value}: it weighs them. Here they count alike."
)
ONLY = "Left out, because only {side} has them: seeds {seeds}."


def show(facts: Comparison, full: bool = False) -> str:
    """The whole text of a comparison."""
    parts = [_heads(facts), _scores(facts), _by_seed(facts), _remarks(facts)]
    parts += [_examples(facts, side, full) for side in SIDES]
    return "\n\n".join("\n".join(part) for part in (list(part) for part in parts) if part)


def _heads(facts: Comparison) -> Iterator[str]:
    for side in SIDES:
        shown = facts[side]
        seeds = [str(seed) for seed in shown["seeds"] if seed is not None]
        words = f"seed{'s' if len(seeds) > 1 else ''} {' '.join(seeds)}" if seeds else ""
        yield from _fold(f"{side.upper()}  {shown['display']}{', ' if words else ''}{words}", "   ")
        yield f"   {shown['records'][0]}" + (f" and {len(seeds) - 1} more" if len(seeds) > 1 else "")
    unit = f" ({facts['unit']})" if facts["unit"] and not facts["binary"] else ""
    yield f"Task {facts['task']}, metric {facts['metric']}{unit}, the same {facts['items']} items."


def _scores(facts: Comparison) -> Iterator[str]:
    for side in SIDES:
        shown = facts[side]
        spreads = [
            (shown["stderr_items"], "standard error over items"),
            (shown["std_seeds"], "standard deviation over seeds"),
        ]
        words = [f"+- {_number(facts, value)} ({name})" for value, name in spreads if value is not None]
        yield f"{side.upper():7}{_number(facts, shown['value']):>8} {'% ' if facts['binary'] else ''}{'  '.join(words)}"
    difference = facts["difference"]
    ends = (difference["mean"], difference["low"], difference["high"])
    mean, low, high = (_number(facts, value, "+") for value in ends)
    yield f"A - B  {mean:>8}{' points' if facts['binary'] else ''}, 95 % interval [{low}, {high}]"
    resampled = difference["resampled"]
    yield f"       ({resampled if resampled == ALL_EQUAL else f'paired bootstrap over {resampled}'})"
    yield from _fold(f"Verdict: {_verdict(facts)}", "  ")


def _verdict(facts: Comparison) -> str:
    verdict = facts["difference"]["verdict"]
    if verdict == "no difference shown":
        words = f"no difference shown between A and B. {NOT_EQUAL}"
    else:
        known = facts["higher_is_better"] is not None and not facts["binary"]
        way = f" ({'higher' if facts['higher_is_better'] else 'lower'} is better)" if known else ""
        words = f"A is {verdict} than B{way}{_few(facts)}."
    return words + (f" {ONE_SEED}" if len(facts["by_seed"]) == 1 else "")


def _few(facts: Comparison) -> str:
    """A doubt about an interval of one seed that does not hold 0: too few items for it, by McNemar's test."""
    pair, *more = facts["by_seed"]
    if more or pair["mcnemar_p"] is None or pair["mcnemar_p"] <= 1 - LEVEL:
        return ""
    count = len(pair["higher_in_a"]) + len(pair["higher_in_b"])
    return FEW.format(count=f"{count} item differs" if count == 1 else f"{count} items differ")


def _by_seed(facts: Comparison) -> Iterator[str]:
    """One line per seed: both scores, the items that changed each way, McNemar's p, and the equal texts."""
    binary, items = facts["binary"], facts["items"]
    ways = ("right only in A", "right only in B") if binary else ("higher in A", "higher in B")
    columns = ["seed", "A", "B", "A - B", *ways, "McNemar's p" if binary else "equal", "same text"]
    rows = []
    for pair in facts["by_seed"]:
        a, b = len(pair["higher_in_a"]), len(pair["higher_in_b"])
        rows.append([
            _seeds(pair["seed"]), _number(facts, pair["a"]), _number(facts, pair["b"]),
            _number(facts, pair["a"] - pair["b"], "+"), *(f"{n} ({100 * n / items:.1f} %)" for n in (a, b)),
            f"{pair['mcnemar_p']:.2g}" if binary else str(items - a - b),
            "-" if pair["same_text"] is None else str(pair["same_text"]),
        ])  # fmt: skip
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    for row in (columns, *rows):
        yield "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
    if binary:
        yield from _fold(MCNEMAR + (EACH_SEED if len(rows) > 1 else ""))


def _remarks(facts: Comparison) -> Iterator[str]:
    for side, seeds in facts["only_one_side"].items():
        if seeds:
            yield from _fold(ONLY.format(side=side.upper(), seeds=", ".join(map(str, seeds))), "  ")
    for side in SIDES:
        value, recorded = (_number(facts, facts[side][key]) for key in ("value", "recorded"))
        if value != recorded:
            yield from _fold(WEIGHTED.format(side=side.upper(), recorded=recorded, value=value), "  ")
    if rescored := sum(pair["rescored"] or 0 for pair in facts["by_seed"]):
        yield from _fold(RESCORED.format(count=rescored), "  ")
    dirty = [side for side, changed in zip("AB", facts["uncommitted_changes"], strict=True) if changed]
    if dirty:
        yield from _fold(DIRTY.format(sides=" and ".join(dirty) + (" were" if len(dirty) > 1 else " was")), "  ")
    if facts["differ_in"]:
        yield "Beside the method, its base, rank and rate, these differ in (A / B):"
        for name, (a, b) in facts["differ_in"].items():
            yield from _fold(f"  {name}: {_short(a)} / {_short(b)}", "    ")


def _examples(facts: Comparison, side: SideName, full: bool) -> Iterator[str]:
    """Items on which one side is higher. The head says how many there are, and that these are not drawn at random."""
    examples, other = facts["examples"][side], {"a": "B", "b": "A"}[side]
    higher: Literal["higher_in_a", "higher_in_b"] = "higher_in_a" if side == "a" else "higher_in_b"
    count = len({item for pair in facts["by_seed"] for item in pair[higher]})
    if not examples:
        return
    words = f"Right in {side.upper()}, wrong in {other}" if facts["binary"] else f"Higher in {side.upper()}"
    several = len(facts["by_seed"]) > 1
    first = ("in most seeds first" if several else "the first") if facts["binary"] else "largest changes first"
    yield f"{words}: {len(examples)} of {count} items{' in any seed' if several else ''}, {first}"
    for example in examples:
        yield ""
        scores = "" if facts["binary"] else ", A {:.4g}, B {:.4g}".format(*example["scores"])
        yield f"item {example['id']}, seed {_seeds(example['seeds'])}{scores}"
        yield from _texts(example, full)


def _texts(example: Example, full: bool) -> Iterator[str]:
    a, b = example["generated"]
    texts = {"prompt": example["prompt"], "target": example["target"]}
    if a is not None and a == b:
        texts["A and B"] = a
    else:
        texts |= {name: text for name, text in (("A", a), ("B", b)) if text is not None}
    differ_at = first_difference(printable(a), printable(b)) if a is not None and b is not None and a != b else 0
    for name, text in texts.items():
        if full:
            yield f"  {name}:"
            yield from (f"    {printable(line.expandtabs())}" for line in text.split("\n"))
        else:
            shown = excerpt(printable(text), differ_at if name in "AB" else 0) or "(empty)"
            yield from _fold(f"  {name + ':':8} {shown}", " " * 11)


def first_difference(a: str, b: str) -> int:
    """Where two texts first differ; the length of the shorter one if the other goes on from there."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def printable(text: str) -> str:
    r"""The text with what a terminal would not print as it is (line ends, control characters) as \n, \x1b."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def excerpt(text: str, place: int = 0) -> str:
    """The text from a little before `place`; its middle is left out, because its end often holds the answer."""
    begin = max(0, place - BEFORE)
    rest = ("..." if begin else "") + text[begin:]
    return rest if len(rest) <= SHOWN else f"{rest[: SHOWN * 2 // 3]} ... {rest[-SHOWN // 3 :]}"


def _number(facts: Comparison, value: float, sign: str = "") -> str:
    return f"{100 * value:{sign}.2f}" if facts["binary"] else f"{value:{sign}.4g}"


def _seeds(pair: list[int | None]) -> str:
    return " / ".join(dict.fromkeys("-" if seed is None else str(seed) for seed in pair))


def _short(text: str) -> str:
    return excerpt(printable(text))


def _fold(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False)
