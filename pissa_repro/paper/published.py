"""Published numbers of the paper, from reference/paper_tables.yaml. Whether ours agree: verdict.py.

Only runs in the paper's short setting are read (100,000 rows, one epoch). Entries marked
memory_not_seen are dropped on reading: they are never shown and never gate.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import yaml

from pissa_repro import methods
from pissa_repro.plan.config import ROOT

PATH = ROOT / "reference" / "paper_tables.yaml"
MEMORY = "memory_not_seen"
CONFIDENCE = ("seen_two_conversions", "seen", "seen_once", "quoted_by_third_party", "digitised")  # best first
TIERS = {  # what a table says of how a number is known
    "seen_two_conversions": "seen", "seen": "seen", "seen_once": "seen",
    "quoted_by_third_party": "quoted by a third party", "digitised": "digitised",
}  # fmt: skip
RUNS = 3  # v4 Table 2: mean and std over 3 runs
# Benchmark -> its training data in the paper's short runs, and the items that its test set may have.
MATHS, CODE, CHAT = "metamath-100k", "codefeedback-100k", "wizardlm-100k"
STEPS = {MATHS: 781, CODE: 819}  # of the released scripts; a whole epoch is right too
ROWS = {MATHS: 100_000}  # the first rows of the data set; the code data are filtered, not cut
TRAINED_ON = {"gsm8k": MATHS, "math": MATHS, "humaneval": CODE, "mbpp": CODE, "mt_bench": CHAT}
# mbpp: evalplus scores the tasks of MBPP+ only, 378 in its v0.2.0 and 399 in v0.1.0 (evalplus' README).
ITEMS = {"gsm8k": (1319,), "math": (5000,), "humaneval": (164,), "mbpp": (378, 399), "mt_bench": (80,)}
# The paper's words for what we call (method, quantized). LoRA's A is Kaiming-uniform here.
METHODS = {
    "full_ft": ("full", False), "lora": ("lora", False), "lora_kaiming": ("lora", False),
    "lora_gaussian": ("lora_gaussian", False), "pissa": ("pissa", False),
    "qlora": ("lora", True), "qpissa": ("pissa", True), "loftq": ("loftq", True),
}  # fmt: skip
# Settings of the short runs: v4 section 5 and Appendix; trainer defaults of the released code (docs/paper_facts.md 3).
RECIPE = {
    "learning_rate": 2e-5, "epochs": 1, "steps": None, "batch_size": 128, "max_length": 512, "schedule": "cosine",
    "warmup_ratio": 0.03, "weight_decay": 0, "max_grad_norm": 1.0,
    "adam_beta1": 0.9, "adam_beta2": 0.999, "adam_epsilon": 1e-8, "prompt": "alpaca", "loss": "response",
}  # fmt: skip
TARGETS = ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")
ADAPTER = {"alpha": "rank", "rslora": False, "dropout": 0, "target_modules": TARGETS}


@dataclass(frozen=True)
class Published:
    """One published score: percent, of mt_bench points of 10.

    rank None: not printed; 0: no factors. std None: a single run.
    """

    model: str
    method: str  # our method's name, "+dora" added where the paper combined the two
    quant: str
    rank: int | None
    benchmark: str
    mean: float
    std: float | None
    paper_ref: str
    confidence: str
    derived_rank: bool = False  # the rank follows from parameter counts or a figure, the source does not print it
    alternations: int | None = None  # T; None: not printed, or no alternations
    superseded: str | None = None  # by which later version, and what changed

    @property
    def tier(self) -> str:
        """How the number is known: seen, quoted by a third party, or digitised."""
        return TIERS[self.confidence]


@dataclass(frozen=True)
class Printed:
    """One score as the paper prints it. method: the paper's word; quant None: none, or nf4 for a quantized method."""

    model: str
    method: str
    benchmark: str
    mean: float
    std: float | None = None
    rank: int | None = None
    derived_rank: bool = False
    quant: str | None = None
    alternations: int | None = None
    dora: bool = False


def without_memory(node: Any) -> Any:
    """The same data without any mapping that is marked as a recollection."""
    if isinstance(node, dict):
        kept = {key: without_memory(value) for key, value in node.items() if not _remembered(value)}
        return {} if _remembered(node) else kept
    return [without_memory(value) for value in node if not _remembered(value)] if isinstance(node, list) else node


@cache
def printed(table: str) -> dict[str, Any]:
    """A table of reference/paper_tables.yaml as it stands there, without recollections."""
    return without_memory(yaml.safe_load(PATH.read_text(encoding="utf-8")))["tables"][table]


def ours(word: str) -> str:
    """Our method's name for the paper's word."""
    return METHODS.get(word, (word,))[0]


def _remembered(node: Any) -> bool:
    return isinstance(node, dict) and node.get("confidence") == MEMORY


@cache
def entries() -> tuple[Published, ...]:
    """All published scores of the short runs that may be shown, best confidence first."""
    tables = without_memory(yaml.safe_load(PATH.read_text(encoding="utf-8")))["tables"]
    ranks = tables["nlg_v1_v3"]["derived_rank"]
    scores = [_entry(table, score) for reader in READERS for table, score in reader(tables, ranks)]
    return tuple(sorted(scores, key=lambda entry: CONFIDENCE.index(entry.confidence)))


def _entry(table: dict[str, Any], score: Printed) -> Published:
    """A printed score in our words."""
    method, quantized = METHODS[score.method]
    rank = score.rank if methods.has_factors(method) else 0  # as in a cell of ours
    return Published(
        model=score.model,
        method=f"{method}+dora" if score.dora else method,
        quant=score.quant or ("nf4" if quantized else "none"),
        rank=rank,
        benchmark=score.benchmark,
        mean=score.mean,
        std=score.std,
        paper_ref=table["paper_ref"],
        confidence=table["confidence"],
        derived_rank=score.derived_rank and bool(rank),
        alternations=score.alternations,
        superseded=superseded(table),
    )


def superseded(table: dict[str, Any]) -> str | None:
    """Which later version has replaced a table, and what changed; None where none has."""
    later = table.get("superseded")
    return f"superseded by {later['by']}: {later['why']}" if later else None


Row = tuple[dict[str, Any], Printed]  # a score, and the table that it stands in


def _main_tables(tables: dict[str, Any], ranks: dict[str, int]) -> Iterator[Row]:
    """v4 Table 2 (mean and std of 3 runs) and the table of v1 to v3 (single runs). No rank is printed."""
    for table in (tables["nlg_v4"], tables["nlg_v1_v3"]):
        for row in table["rows"]:
            means = row.get("mean", row)
            for benchmark in [b for b in TRAINED_ON if b in means] if row["method"] in METHODS else []:
                std, rank = row.get("std", {}).get(benchmark), ranks[row["model"]]
                yield table, Printed(row["model"], row["method"], benchmark, means[benchmark], std, rank, True)


def _headlines(tables: dict[str, Any], ranks: dict[str, int]) -> Iterator[Row]:
    """4-bit accuracies of the abstracts and the README. LLaMA-2-7B's are those of the sweep at rank 128."""
    table = tables["headline_claims_by_version"]
    done: set[tuple[str, str, float]] = set()
    for row in table["rows"]:
        for key, model in (("llama2_7b_4bit_gsm8k", "llama-2-7b"), ("llama3_70b_gsm8k", "llama-3-70b")):
            for word, mean in row.get(key, {}).items():
                if (model, word, mean) not in done and row.get("confidence", table["confidence"]) in CONFIDENCE:
                    done.add((model, word, mean))
                    yield table, Printed(model, word, "gsm8k", mean, rank=ranks.get(model), derived_rank=True)


def _rank_sweeps(tables: dict[str, Any], ranks: dict[str, int]) -> Iterator[Row]:
    """The rank sweeps read from pictures: plain for three models, 4-bit for LLaMA-2-7B (one alternation)."""
    table = tables["rank_sweep_gsm8k_digitised"]
    for row in table["rows"]:
        yield table, Printed(row["model"], "full_ft", "gsm8k", row["full_ft"])
        for word in ("lora", "pissa"):
            for rank, mean in zip(table["ranks"], row[word], strict=True):
                if mean is not None:
                    yield table, Printed(row["model"], word, "gsm8k", mean, rank=rank)
    table = tables["rank_sweep_quantised_llama2_7b_digitised"]
    for benchmark in ("gsm8k", "math"):
        for row in table["rows"][benchmark]:
            method, t = row["method"], None if row["method"] == "qlora" else table["setup"]["niter"]
            for rank, mean in zip(table["ranks"], row["values"], strict=True):
                yield table, Printed(table["model"], method, benchmark, mean, rank=rank, alternations=t)


def _without_setting(tables: dict[str, Any], ranks: dict[str, int]) -> Iterator[Row]:
    """v4 Tables 5 and 9 (rank not printed), and the bars of Figure 6."""
    table = tables["combination_dora_adalora_v4"]
    for row in table["rows"]:
        if row["method"] in ("vanilla", "dora"):
            dora = row["method"] == "dora"
            for word in ("lora", "pissa"):
                yield table, Printed(table["model"], word, "gsm8k", row[word], row[f"{word}_std"], dora=dora)
    table = tables["other_quantisers_v4"]
    for row in table["rows"]:
        for word in ("qlora", "qpissa") if row["quantiser"] in ("nf4", "int8") else ():
            mean, std = row["gsm8k"][word], row["gsm8k"][f"{word}_std"]
            yield table, Printed(table["model"], word, "gsm8k", mean, std, quant=row["quantiser"])
    table = tables["fig6_models_digitised"]
    for benchmark, rows in table["rows"].items():
        for row in rows:
            for word in ("lora", "pissa"):
                method, rank = ("q" if row["quantised"] else "") + word, ranks.get(row["model"])
                yield table, Printed(row["model"], method, benchmark, row[word], rank=rank, derived_rank=True)


READERS = (_main_tables, _headlines, _rank_sweeps, _without_setting)


def lookup(model: str, method: str, quant: str, rank: int, benchmark: str) -> list[Published]:
    """Published scores of a setting, best confidence first; those without a printed rank only if no other fits.

    What one entry does not print of its setting holds as another entry of the same setting prints it.
    """
    same = [e for e in entries() if (e.model, e.method, e.quant, e.benchmark) == (model, method, quant, benchmark)]
    found = [e for e in same if e.rank == rank] or [e for e in same if e.rank is None]
    known = {e.alternations for e in found if e.alternations is not None}
    return [replace(e, alternations=min(known)) for e in found] if len(known) == 1 else found
