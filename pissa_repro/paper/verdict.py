"""Whether one of our scores agrees with the published one, and if that can be said at all."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pissa_repro.paper import identity, losses, settings, words
from pissa_repro.paper.published import RUNS, TRAINED_ON, Published, lookup
from pissa_repro.paper.settings import differences, remarks
from pissa_repro.paper.words import DECLARED, DIFFERS, NOT_COMPARABLE, UNDECIDED, Interval, Ours
from pissa_repro.plan.cells import Cell
from pissa_repro.plan.labels import paper_method
from pissa_repro.plan.sweep import Sweep


@dataclass(frozen=True)
class Verdict:
    """The published score (None where there is none), its std, the verdict, and why.

    tier: how the published score is known. p: two-sided, that there is no difference; None where none is tested. loss,
    loss_verdict: the published final loss, and the word for ours; None where none was published.
    """

    value: float | None
    std: float | None
    verdict: str
    note: str
    tier: str | None = None
    p: float | None = None
    loss: float | None = None
    loss_verdict: str | None = None


def compare(sweep: Sweep, cell: Cell, task: str, score: Ours, hashes: Mapping[str, str] | None = None) -> Verdict:
    """Verdict on a score of ours, by the rule of words.py. hashes: of the fetched rows, by dataset.

    Not comparable: the config links no benchmark, model or training data of the paper to the cell, what it
    links is something else, a setting is not the paper's, or the benchmark's scores never are; the note says which.
    """
    if reason := unlinked(sweep, cell, task):
        return Verdict(None, None, NOT_COMPARABLE, reason)
    defined, method = sweep.config, paper_method(sweep.definition(cell.method))
    model, benchmark = defined["models"][cell.model]["paper"], defined["tasks"][task]["paper"]
    assert method is not None  # else it would be unlinked
    published = lookup(model, method, cell.quant, cell.rank, benchmark)
    if not published:
        at = f" at rank {cell.rank}" if cell.rank else ""
        return Verdict(None, None, NOT_COMPARABLE, f"no published {benchmark} of {model}, {sweep.display(cell)}{at}")
    best, who = published[0], identity.of_cell(sweep, cell, task, hashes or {})
    loss, loss_word, first = _loss(sweep, cell, score, benchmark, identity.of_training(sweep, cell, hashes or {}))
    known = Verdict(best.mean, best.std, NOT_COMPARABLE, "", best.tier, None, loss, loss_word)
    reasons = [*differences(sweep, cell, task, score, best), *who.other]
    if losses.diverged(score):
        reasons.insert(0, "our final loss is not a number")
    if not math.isfinite(score.mean):
        reasons.insert(0, "our score is not a number")
    if reasons:
        note = "; ".join([*first, *reasons, source(published)])
        return replace(known, note=note)
    word, why, p = judged(score, published)
    why += _within_noise(word, score, best)
    if who.declared:
        word, why = f"{word}, {DECLARED}", [f"{DECLARED}: {', '.join(who.declared)}", *why]
    notes = [*first, *why, source(published), *remarks(sweep, cell, task, best)]
    return replace(known, verdict=word, note="; ".join(notes), p=p)


def _loss(
    sweep: Sweep, cell: Cell, score: Ours, benchmark: str, who: identity.Identity
) -> tuple[float | None, str | None, list[str]]:
    """The published final loss, the word for ours, and the numbers behind it; nothing where none was published.

    Only what belongs to the training can make it incomparable. who: the identity of the model and the training data.
    """
    model, method = sweep.config["models"][cell.model]["paper"], paper_method(sweep.definition(cell.method))
    published = losses.lookup(model, method or "", cell.quant, cell.rank)
    if published is None or score.loss is None:
        return None, None, []
    other = [*settings.training(sweep, cell, benchmark), *settings.repetitions(sweep, cell, published.alternations)]
    if other or who.other or losses.diverged(score):
        return published.mean, NOT_COMPARABLE, []
    word, numbers = losses.judged(score, published)
    return published.mean, f"{word}, {DECLARED}" if who.declared else word, [numbers]


def _within_noise(word: str, score: Ours, best: Published) -> list[str]:
    """What a difference needs no other cause for: that runs of one setting lie as far apart."""
    if word != DIFFERS or score.noise is None or abs(score.mean - best.mean) > score.noise:
        return []
    return [f"within the noise floor: two runs of one setting lie up to {score.noise:.2f} points apart here"]


def judged(score: Ours, published: list[Published]) -> tuple[str, list[str], float | None]:
    """The word for a comparable score, the numbers behind it, and the p-value of no difference.

    Two single runs of one setting that are further apart than words.CONTRADICTS contradict each other: then a score
    differs if it differs from all in the same direction, and nothing else can be said.
    """
    best, *others = published
    found = _against(score, best)
    word, why = words.word(found), [str(found)]
    against = [entry for entry in others if best.std is None and abs(entry.mean - best.mean) > words.CONTRADICTS]
    if against:
        found_all = [found, *(_against(score, entry) for entry in against)]
        same = all(f.low > 0 for f in found_all) or all(f.high < 0 for f in found_all)
        values = " and ".join(f"{entry.mean:g}" for entry in (best, *against))
        why.append(f"the published numbers {values} contradict each other")
        return DIFFERS if same else UNDECIDED, why, max(f.p for f in found_all if f.p is not None) if same else None
    if word == UNDECIDED:
        why.append(words.deciding(score, published_stderr(best, score.n)))
    return word, why, found.p


def _against(score: Ours, entry: Published) -> Interval:
    return words.difference(score, entry.mean, published_stderr(entry, score.n))


def published_stderr(entry: Published, n: int) -> float:
    """Standard error of a published accuracy, in percent: its runs, std / sqrt(3), and its n test items.

    The paper prints the spread over runs only. The items' part is assumed: binomial,
    sqrt(p (100 - p) / n), 1.4 points for GSM8K (pitfall 25, docs/pitfalls.md). A single run without a std has this part
    alone: its spread over runs is not known, and "differs" may then be that spread (pitfall 25: up to
    2.9 points); the note says "no spread printed". Ours and theirs are scored on the same items, so
    that the errors are not independent as assumed here, and the sum is on the large side.
    """
    return math.hypot((entry.std or 0.0) / RUNS**0.5, (entry.mean * (100 - entry.mean) / n) ** 0.5)


def unlinked(sweep: Sweep, cell: Cell, task: str) -> str | None:
    """Which part of the cell the config does not link to the paper with a `paper:` key; None if all are."""
    config = sweep.config
    definition = config["tasks"][task]
    test, model, data = definition["dataset"], config["models"][cell.model], config["datasets"][cell.data]
    if definition.get("paper") not in TRAINED_ON:
        return _unsaid(config["datasets"][test].get("display", test), "a benchmark")
    if "paper" not in model:
        return _unsaid(model.get("display", cell.model), "a model")
    if "paper" not in data:
        return _unsaid(data.get("display", cell.data), "training data")
    if paper_method(sweep.definition(cell.method)) is None:
        return f"{cell.method} (lora: {sweep.definition(cell.method)['lora']}) is not a method of the paper"
    return None


def _unsaid(name: str, what: str) -> str:
    """It may well be the paper's: a user who calls rows GSM8K has not said that they are the paper's GSM8K."""
    return f"no `paper:` in the config says that {name} is {what} of the paper"


def source(published: list[Published]) -> str:
    """Where the number shown stands, what is not certain about it, and other numbers that were published."""
    best, *others = published
    spread = "" if best.std is not None else ", no spread printed"
    parts = [f"published in {best.paper_ref} ({best.confidence.replace('_', ' ')}{spread})"]
    if best.superseded:
        parts.append(best.superseded)
    if best.derived_rank:
        parts.append("rank derived, not printed")
    also = {entry.mean: entry for entry in reversed(others) if entry.mean != best.mean}
    return "; ".join(parts + [f"also published: {mean:g} in {_where(entry)}" for mean, entry in also.items()])


def _where(entry: Published) -> str:
    """Where another number stands, how it is known, and which version has replaced it."""
    return f"{entry.paper_ref} ({entry.tier}{', ' + entry.superseded if entry.superseded else ''})"
