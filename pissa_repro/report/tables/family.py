"""The comparisons of one table as a family: each word again after Holm's correction, beside the uncorrected one.

Equivalence is no part of it: each row says it by itself.
"""

from pissa_repro.report.tables.table import Row
from pissa_repro.results.multiple import holm, rejected

NO_DIFFERENCE = "no difference shown"
SURE = ("differs", "better", "worse", "higher", "lower")  # the words that a correction may take back
FAMILIES = {"diff_p": ("diff_verdict", "diff_holm"), "verdict_p": ("verdict", "verdict_holm")}
OF = {"diff_p": ("line", "base"), "verdict_p": ("line",)}  # what a comparison is of: it counts once


def correct(rows: list[Row]) -> None:
    """Add to each row its corrected p-values and words: to LoRA, and to the published number.

    Each row has its "line", and as "base" the one that it is compared with (results/rows.py).
    """
    for p, (word, corrected) in FAMILIES.items():
        family = [(tuple(row[key] for key in OF[p]), row) for row in rows if row.get(p) is not None]
        once = {of: row[p] for of, row in family}
        values = dict(zip(once, holm(list(once.values())), strict=True))
        for of, row in family:
            row |= {f"{p}_holm": values[of], corrected: _after(row[word], values[of]), f"{p}_family": len(once)}


def _after(word: str, p: float) -> str:
    first = word.split(",")[0]
    return word if first not in SURE or rejected(p) else word.replace(first, NO_DIFFERENCE, 1)


def shown(row: Row, p: str) -> str:
    """The corrected word with its p-value; nothing where the table has no other comparison."""
    return f"{row[FAMILIES[p][1]]}, p {row[f'{p}_holm']:.2g}" if size([row], p) > 1 else ""


def size(rows: list[Row], p: str) -> int:
    """How many comparisons the family of some rows has."""
    return max((row.get(f"{p}_family", 0) for row in rows), default=0)
