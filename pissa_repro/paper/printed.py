"""The paper's tables of scores row by row, as they are printed: Tables 2, 5 and 7 of version 4."""

from collections.abc import Iterator
from dataclasses import dataclass

from pissa_repro.paper.published import ours, printed

LOSS = "final loss"  # stands beside the benchmarks
MODELS = {
    "llama-2-7b": "LLaMA-2-7B", "llama-3-8b": "LLaMA-3-8B", "llama-3-70b": "LLaMA-3-70B",
    "mistral-7b-v0.1": "Mistral-7B-v0.1", "gemma-7b": "Gemma-7B",
}  # fmt: skip
COMBINED = {  # a row of Table 5 and its two columns, as methods of ours
    "vanilla": ("lora", "pissa"), "dora": ("lora+dora", "pissa+dora"), "adalora": ("adalora", "pissa_adalora"),
}  # fmt: skip
DTYPES = {"bf16": "bfloat16", "fp32": "float32"}


@dataclass(frozen=True)
class PrintedRow:
    """One printed row. method: in the words of published.py. values: mean and standard deviation by benchmark.

    In percent, MT-Bench in points of 10; the deviation is None where none is printed. dtype: None where all rows of the
    table have the same. why: the reason why no rule of verdict.py compares a score with it.
    """

    model: str
    method: str
    values: dict[str, tuple[float, float | None]]
    why: str
    dtype: str | None = None


def language_generation() -> Iterator[PrintedRow]:
    """Table 2: mean and standard deviation of 3 runs."""
    for row in printed("nlg_v4")["rows"]:
        values = {name: (mean, row["std"][name]) for name, mean in row["mean"].items()}
        yield PrintedRow(row["model"], ours(row["method"]), values, "no published number of this setting")


def combinations() -> Iterator[PrintedRow]:
    """Table 5: DoRA and AdaLoRA on LoRA and on PiSSA."""
    table = printed("combination_dora_adalora_v4")
    for row in table["rows"]:
        for start, method in zip(("lora", "pissa"), COMBINED[row["method"]], strict=True):
            values = {table["metric"]: (row[start], row[f"{start}_std"])}
            yield PrintedRow(table["model"], method, values, "v4 Table 5 prints no rank")


def precisions() -> Iterator[PrintedRow]:
    """Table 7: full fine-tuning in bfloat16 and in float32."""
    why = "v4 Table 7 is of three epochs of all 395,000 rows, one run, and no rule compares with it"
    for row in printed("full_ft_precision_v4")["rows"]:
        for word, dtype in DTYPES.items():
            values: dict[str, tuple[float, float | None]] = {
                LOSS if name == "train_loss" else name: (mean, None) for name, mean in row[word].items()
            }
            yield PrintedRow(row["model"], "full", values, why, dtype)
