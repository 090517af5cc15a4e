"""Whether one of our scores agrees with the published one, and if that can be said at all."""

from dataclasses import dataclass

import numpy as np

from pissa_repro.paper.published import ADAPTER, ITEMS, RECIPE, ROWS, RUNS, STEPS, TRAINED_ON, Published, lookup
from pissa_repro.plan.cells import Cell
from pissa_repro.plan.sections import NamedMethod
from pissa_repro.plan.sweep import Sweep
from pissa_repro.results.stats import Z
from pissa_repro.tasks import METRIC

AGREES, DIFFERS, NOT_COMPARABLE = "agrees", "differs", "not comparable"
# New tokens of the released scoring scripts (utils/gen_vllm.py; the older one has 2048 for MATH: paper_facts.md 3.5).
NEW_TOKENS, OLDER_NEW_TOKENS = 1024, {"math": 2048}

# Why a benchmark's scores are never comparable with the published ones, whatever the settings. Both statements of
# the authors: card of the dataset fxmeng/pissa-dataset; GraphPKU/PiSSA issue 29, which also names judge and protocol.
INCOMPARABLE = {
    "mt_bench": "the judge, the words to it and greedy answers are not the paper's (GPT-4, FastChat); and its authors "
    "say both that the scores are of the first turn (card of their dataset) and of both turns (their issue 29)",
}
# What is not known of a benchmark's published scores. Four points: evalplus' README on MBPP+ v0.2.0.
UNSEEN_PROMPTS = "the paper's prompts are in a file that was not seen, these are evalplus' own"
UNKNOWN = {
    "humaneval": (UNSEEN_PROMPTS,),
    "mbpp": (
        UNSEEN_PROMPTS,
        "the paper does not say which MBPP of evalplus: v0.2.0 (378 tasks) scores about 4 points above v0.1.0 (399)",
    ),
}


@dataclass(frozen=True)
class Ours:
    """A score of ours: in percent or the benchmark's unit, its error over items and seeds, and its n items."""

    mean: float
    stderr: float
    n: int
    metric: str = METRIC


@dataclass(frozen=True)
class Verdict:
    """The published score (None where there is none), its std, the verdict, and why."""

    value: float | None
    std: float | None
    verdict: str
    note: str


def compare(sweep: Sweep, cell: Cell, task: str, score: Ours) -> Verdict:
    """Verdict on a score of ours.

    agrees: |ours - published| <= 1.96 * sqrt(stderr^2 + published_stderr^2), else differs. Not
    comparable: the config links no benchmark, model or training data of the paper to the cell, a setting
    is not the paper's, or the benchmark's scores never are; the note then says which.
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
    best = published[0]
    if reasons := differences(sweep, cell, task, score, best):
        return Verdict(best.mean, best.std, NOT_COMPARABLE, f"{'; '.join(reasons)}; {source(published)}")
    near = abs(score.mean - best.mean) <= Z * np.hypot(score.stderr, published_stderr(best, score.n))
    notes = [source(published), *remarks(sweep, cell, task, best)]
    return Verdict(best.mean, best.std, AGREES if near else DIFFERS, "; ".join(notes))


def published_stderr(entry: Published, n: int) -> float:
    """Standard error of a published accuracy, in percent: its runs, std / sqrt(3), and its n test items.

    The paper prints the spread over runs only. The items' part is assumed: binomial,
    sqrt(p (100 - p) / n), 1.4 points for GSM8K (pitfall 25, docs/pitfalls.md). A single run without a std has this part
    alone: its spread over runs is not known, and "differs" may then be that spread (pitfall 25: up to
    2.9 points); the note says "no spread printed". Ours and theirs are scored on the same items, so
    that the errors are not independent as assumed here, and the sum is on the large side.
    """
    return float(np.hypot((entry.std or 0.0) / RUNS**0.5, (entry.mean * (100 - entry.mean) / n) ** 0.5))


def unlinked(sweep: Sweep, cell: Cell, task: str) -> str | None:
    """Which part of the cell the config does not link to the paper with a `paper:` key; None if all are."""
    config = sweep.config
    definition = config["tasks"][task]
    test, model, data = definition["dataset"], config["models"][cell.model], config["datasets"][cell.data]
    if definition.get("paper") not in TRAINED_ON:
        return f"{config['datasets'][test].get('display', test)} is not a benchmark of the paper"
    if "paper" not in model:
        return f"{model.get('display', cell.model)} is not a model of the paper"
    if "paper" not in data:
        return f"{data.get('display', cell.data)} is not training data of the paper"
    if paper_method(sweep.definition(cell.method)) is None:
        return f"{cell.method} (lora: {sweep.definition(cell.method)['lora']}) is not a method of the paper"
    return None


def paper_method(definition: NamedMethod) -> str | None:
    """The method in the words of published.py: its init, "+dora" with DoRA; None with other LoraConfig fields."""
    if not definition["lora"]:
        return definition["init"]
    return f"{definition['init']}+dora" if definition["lora"] == {"use_dora": True} else None


def differences(sweep: Sweep, cell: Cell, task: str, score: Ours, entry: Published) -> list[str]:
    """Every setting that is not the published run's, in words; empty when the two can be compared."""
    ours = dict(cell.train) | {"learning_rate": cell.learning_rate}
    paper = RECIPE | (ADAPTER if sweep.has_factors(cell) else {})
    if ours["alpha"] == cell.rank:
        ours["alpha"] = "rank"
    ours["target_modules"] = tuple(sorted(ours["target_modules"]))
    data, benchmark = sweep.config["datasets"][cell.data]["paper"], entry.benchmark
    if ours["steps"] == STEPS.get(data):
        ours["steps"] = None
    reasons = [INCOMPARABLE[benchmark]] if benchmark in INCOMPARABLE else []
    reasons += [f"{key} is {ours[key]}, the paper's {value}" for key, value in paper.items() if ours[key] != value]
    if data != TRAINED_ON[benchmark]:
        reasons.append(f"trained on {data}, the paper on {TRAINED_ON[benchmark]}")
    if score.n not in ITEMS[benchmark]:
        reasons.append(f"{score.n} items, the benchmark has {' or '.join(map(str, ITEMS[benchmark]))}")
    if benchmark == "mbpp" and "test" in sweep.config["datasets"][sweep.config["tasks"][task]["dataset"]]["fields"]:
        reasons.append("scored by the tests of MBPP+, the paper by those of MBPP")  # card of fxmeng/pissa-dataset
    rows = sweep.config["datasets"][cell.data].get("rows")
    if rows != ROWS.get(data, rows):
        reasons.append(f"trained on {rows} rows, the paper on {ROWS[data]}")
    if score.metric != METRIC:
        reasons.append(f"metric '{score.metric}', the paper's rule is '{METRIC}'")
    if entry.rank is None:
        reasons.append(f"{entry.paper_ref} prints no rank")
    if entry.alternations not in (None, t := alternations(sweep, cell)):
        reasons.append(f"T = {t}, {entry.alternations} in the published run")
    return reasons


def alternations(sweep: Sweep, cell: Cell) -> int | None:
    """T, the decompositions of a start that alternates with quantization; None for every other."""
    spec = sweep.init_spec(cell)
    return spec["options"].get("alternations") if spec else None


def source(published: list[Published]) -> str:
    """Where the number shown stands, what is not certain about it, and other numbers that were published."""
    best, *others = published
    spread = "" if best.std is not None else ", no spread printed"
    parts = [f"published in {best.paper_ref} ({best.confidence.replace('_', ' ')}{spread})"]
    if best.derived_rank:
        parts.append("rank derived, not printed")
    also = {entry.mean: entry.paper_ref for entry in reversed(others) if entry.mean != best.mean}
    parts += [f"also published: {mean:g} in {where}" for mean, where in also.items()]
    return "; ".join(parts)


def remarks(sweep: Sweep, cell: Cell, task: str, entry: Published) -> list[str]:
    """What differs from the paper, or is not known, without making the numbers incomparable."""
    plain = sweep.has_factors(cell) and cell.quant == "none"
    dtype, expected = dict(cell.train)["dtype"], "float32" if plain else "bfloat16"  # docs/paper_facts.md 3.1, 3.3
    tokens, t = sweep.config["tasks"][task]["max_new_tokens"], alternations(sweep, cell)
    notes = [] if dtype == expected else [f"dtype {dtype} here, the paper's {expected}"]
    older = OLDER_NEW_TOKENS.get(entry.benchmark)
    if tokens not in (NEW_TOKENS, older):
        also = f", {older} in the older one" if older else ""
        notes.append(f"{tokens} new tokens here, {NEW_TOKENS} in the released script{also}")
    notes += UNKNOWN.get(entry.benchmark, ())
    if t and entry.alternations is None:
        notes.append(f"T = {t} here, not printed there")
    if len(sweep.config["sweep"]["seeds"]) == 1:
        notes.append("one seed here: our error holds items only")
    return notes
