"""What of a cell of ours is not as in the published run: reasons not to compare, and remarks.

A reason is what moves scores by points, or is not known to move them by less; a remark is what does not.
"""

from typing import TYPE_CHECKING, Any

from pissa_repro.paper.published import ADAPTER, ITEMS, RECIPE, ROWS, STEPS, TRAINED_ON, Published
from pissa_repro.paper.words import Ours
from pissa_repro.plan.cells import Cell
from pissa_repro.plan.sweep import Sweep
from pissa_repro.sources.split import span
from pissa_repro.tasks import METRIC

if TYPE_CHECKING:
    from collections.abc import Mapping

# New tokens of the released scoring scripts (utils/gen_vllm.py; the older one has 2048 for MATH: paper_facts.md 3.5).
NEW_TOKENS, OLDER_NEW_TOKENS = 1024, {"math": 2048}
SCORED = {"backend": "vllm", "dtype": "bfloat16"}  # released code (docs/paper_facts.md 3.5)
SOLVER = "niter_16"  # released code (docs/paper_facts.md 3.2)
# Released code: the factors of these methods are scored on the plain base, also where they were trained on a quantized
# one (pitfall 24, docs/pitfalls.md). What that moves is not known; it takes away the whole quantization error.
SCORED_ON_PLAIN = {"lora"}

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


def differences(sweep: Sweep, cell: Cell, task: str, score: Ours, entry: Published) -> list[str]:
    """Every setting that makes the numbers incomparable, in words; empty when the two can be compared."""
    reasons = [INCOMPARABLE[entry.benchmark]] if entry.benchmark in INCOMPARABLE else []
    reasons += training(sweep, cell, entry.benchmark)
    reasons += _items(sweep, task, score, entry)
    reasons += _scoring(sweep, cell, task, score, entry)
    if entry.rank is None:
        reasons.append(f"{entry.paper_ref} prints no rank")
    return reasons + repetitions(sweep, cell, entry.alternations)


def training(sweep: Sweep, cell: Cell, benchmark: str) -> list[str]:
    """What of a cell's training is not as in the published run for a benchmark."""
    return _recipe(sweep, cell) + _data(sweep, cell, benchmark)


def repetitions(sweep: Sweep, cell: Cell, published: int | None) -> list[str]:
    """Whether T is another than in the published run, in words; None: not printed, or no alternations."""
    t = alternations(sweep, cell)
    return [] if published in (None, t) else [f"T = {t}, {published} in the published run"]


def _recipe(sweep: Sweep, cell: Cell) -> list[str]:
    ours = dict(cell.train) | {"learning_rate": cell.learning_rate}
    paper = RECIPE | (ADAPTER if sweep.has_factors(cell) else {})
    if ours["alpha"] == cell.rank:
        ours["alpha"] = "rank"
    ours["target_modules"] = tuple(sorted(ours["target_modules"]))
    steps = STEPS.get(sweep.config["datasets"][cell.data]["paper"])
    if ours["steps"] == steps:
        ours["steps"] = None
    words = paper | {"steps": f"{steps} (or the whole epoch)" if steps else "the whole epoch"}
    reasons = [f"{key} is {ours[key]}, the paper's {words[key]}" for key, value in paper.items() if ours[key] != value]
    if not sweep.has_factors(cell) and ours["dtype"] != expected_dtype(sweep, cell):
        reasons.append(f"full fine-tuning in {ours['dtype']}: 0.8 to 7.2 points of GSM8K off bfloat16 (v4 Table 7)")
    return reasons


def _data(sweep: Sweep, cell: Cell, benchmark: str) -> list[str]:
    definition, reasons = sweep.config["datasets"][cell.data], []
    data, rows = definition["paper"], definition.get("rows")
    if data != TRAINED_ON[benchmark]:
        reasons.append(f"trained on {data}, the paper on {TRAINED_ON[benchmark]}")
    if data in ROWS and (rows is None or span(rows) != (0, ROWS[data])):
        taken = "all rows of its file" if rows is None else f"rows {rows}" if isinstance(rows, str) else f"{rows} rows"
        reasons.append(f"trained on {taken}, the paper on the first {ROWS[data]:,} (rows: {ROWS[data]})")
    return reasons


def _items(sweep: Sweep, task: str, score: Ours, entry: Published) -> list[str]:
    benchmark, reasons = entry.benchmark, []
    if score.n not in ITEMS[benchmark]:
        reasons.append(f"{score.n} items, the benchmark has {' or '.join(map(str, ITEMS[benchmark]))}")
    if benchmark == "mbpp" and "test" in sweep.data_spec(sweep.config["tasks"][task]["dataset"])["dataset"]["fields"]:
        reasons.append("scored by the tests of MBPP+, the paper by those of MBPP")  # card of fxmeng/pissa-dataset
    return reasons


def _scoring(sweep: Sweep, cell: Cell, task: str, score: Ours, entry: Published) -> list[str]:
    reasons = []
    if sweep.asked(task)["max_new_tokens"] < NEW_TOKENS:
        reasons.append(f"{_tokens(sweep, task, entry)}: an answer that is cut off counts as wrong")
    if score.metric != METRIC:
        reasons.append(f"metric '{score.metric}', the paper's rule is '{METRIC}'")
    if cell.quant != "none" and sweep.definition(cell.method)["init"] in SCORED_ON_PLAIN:
        reasons.append(
            f"evaluated on the {cell.quant} base that it was trained on, the released script on the plain base"
        )
    return reasons


def _tokens(sweep: Sweep, task: str, entry: Published) -> str:
    older = OLDER_NEW_TOKENS.get(entry.benchmark)
    also = f", {older} in the older one" if older else ""
    return f"{sweep.asked(task)['max_new_tokens']} new tokens here, {NEW_TOKENS} in the released script{also}"


def expected_dtype(sweep: Sweep, cell: Cell) -> str:
    """The dtype of training in the paper: float32 for factors on a plain base (docs/paper_facts.md 3.1, 3.3)."""
    return "float32" if sweep.has_factors(cell) and cell.quant == "none" else "bfloat16"


def alternations(sweep: Sweep, cell: Cell) -> int | None:
    """T, the decompositions of a start that alternates with quantization; None for every other."""
    return _options(sweep, cell).get("alternations")


def _options(sweep: Sweep, cell: Cell) -> dict[str, Any]:
    spec = sweep.init_spec(cell)
    return dict(spec["options"]) if spec else {}


def remarks(sweep: Sweep, cell: Cell, task: str, entry: Published) -> list[str]:
    """What differs from the paper, or is not known, without making the numbers incomparable."""
    dtype, options = dict(cell.train)["dtype"], _options(sweep, cell)
    asked: Mapping[str, object] = sweep.asked(task)
    notes = [
        f"scored with {key} {asked[key]}, the released script with {value}"
        for key, value in SCORED.items()
        if asked[key] != value
    ]
    if dict(cell.train).get("tf32"):
        notes.append("products of float32 in TF32 here, not said there")
    if dtype != (expected := expected_dtype(sweep, cell)):
        notes.append(f"dtype {dtype} here, the paper's {expected}")
    if asked["max_new_tokens"] not in (NEW_TOKENS, OLDER_NEW_TOKENS.get(entry.benchmark)):
        notes.append(_tokens(sweep, task, entry))
    if options.get("svd", SOLVER) != SOLVER:
        notes.append(f"solver {options['svd']} here, {SOLVER} in the released script")
    notes += UNKNOWN.get(entry.benchmark, ())
    if (t := options.get("alternations")) and entry.alternations is None:
        notes.append(f"T = {t} here, not printed there")
    if len(sweep.config["sweep"]["seeds"]) == 1:
        notes.append("one seed here: our error holds items only")
    return notes
