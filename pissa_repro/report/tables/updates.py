"""How far each projection type has moved, and in how many directions."""

from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.tables import captions
from pissa_repro.report.tables.table import Row, Table, headed
from pissa_repro.results.updates import Moved, moved

CAPTION = (
    "Size: |dW| / |W|, Frobenius norms, from the start of the training to its end; no quantization error is in it. "
    "Stable rank: |dW|² over its largest squared singular value. Effective rank: exp of the entropy of the squared "
    "singular values. Means over layers and seeds. DoRA, and what trains more than factors, is not measured."
)


def updates(sweep: Sweep, results: Path, heading: str) -> Table:
    """A row for each setting and projection type. As `moved` raises."""
    found = list(moved(sweep, results))
    models = [sweep.config["models"][one.first.model].get("display", one.first.model) for one in found]
    table = headed(heading, dict.fromkeys(models), [row for one in found for row in _rows(sweep, one)])
    words = " ".join([CAPTION, *captions.diverged(table.rows)])
    return Table(table.columns, table.rows, f"{table.markdown}\n{words}\n")


def _rows(sweep: Sweep, one: Moved) -> Iterator[Row]:
    cell, config = one.first, sweep.config
    same = {
        "model": config["models"][cell.model].get("display", cell.model), "data": cell.data,
        "method": sweep.display(cell), "config name": cell.method, "base": cell.quant, "rank": cell.rank or None,
        "learning rate": cell.learning_rate, "seeds": len(one.cells),
    }  # fmt: skip
    if one.diverged:
        yield {**same, "type": "all", "diverged": one.diverged}
        return
    kinds = one.by_type()
    for kind, facts in {**kinds, "all": [fact for some in kinds.values() for fact in some]}.items():
        yield {**same, "type": kind, "modules": len(facts) // len(one.cells), **_means(facts)}


def _means(facts: list[dict[str, Any]]) -> Row:
    row: Row = {"size": fmean(one["size"] for one in facts)}
    for name in ("stable_rank", "effective_rank"):
        known = [one[name] for one in facts if one[name] is not None]
        row[name.replace("_", " ")] = fmean(known) if known else None
    return row
