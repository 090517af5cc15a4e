"""Error reductions by projection type: Tables 4 and 8 of the paper, the published rows below ours."""

import math
from pathlib import Path
from typing import Any

import pandas

from pissa_repro import methods
from pissa_repro.model.naming import order
from pissa_repro.paper import identity, published, words
from pissa_repro.paper.words import DECLARED, NOT_COMPARABLE, Interval
from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.tables.table import Row, Table, headed
from pissa_repro.results.study import Study, studied
from pissa_repro.runtime.study_specs import GridPoint

# Our error reductions and the paper's are of the same weights and deterministic: half a unit of the
# printed digit, 0.05 for double quantization (pitfall 16, docs/pitfalls.md), and 0.1 for the solver.
TOLERANCE = 0.2
QUANT = "nf4"  # blocks of 64, without double quantization: how the released code measures (paper_facts.md 3.3)
KINDS = ("q", "k", "v", "o", "gate", "up", "down", "avg")  # the published columns
OURS, THEIRS = "measured", "published"


def by_projection(sweep: Sweep, results: Path, alternations: list[int], heading: str) -> Table:
    """Ours of every studied model at these numbers of alternations, each with its verdict; then the published rows."""
    models = studied(sweep, results)
    tables = {study: reductions(study.errors("ranks")) for study in models}
    names = dict.fromkeys(str(kind) for table in tables.values() for kind in table.columns if kind != "avg")
    kinds = sorted(names, key=order)
    theirs = [row for row in published.printed("quant_error_reduction_v4")["rows"] if row["niter"] in alternations]
    ours = [row for study, table in tables.items() for row in _measured(study, table, kinds, alternations, theirs)]
    return headed(heading, [study.display for study in models], ours + [_published(row, kinds) for row in theirs])


def reductions(errors: pandas.DataFrame) -> pandas.DataFrame:
    """Mean reduction by point (rows) and projection type (columns), and avg, the mean over types."""
    points = ["method", "quant", "rank", "alternations"]
    table = errors.pivot_table(values="reduction", index=points, columns="type", aggfunc="mean", sort=False)
    kinds = sorted(map(str, table), key=order)
    return table[kinds].assign(avg=table.mean(axis=1))


def _measured(
    study: Study, table: pandas.DataFrame, kinds: list[str], alternations: list[int], theirs: list[Row]
) -> list[Row]:
    rows: list[Row] = []
    for (method, quant, rank, count), values in zip(table.index.to_list(), table.to_numpy(), strict=True):
        if count in alternations:
            point = GridPoint(method=method, quant=quant, rank=rank, alternations=count)
            ours = dict(zip(map(str, table), values.tolist(), strict=True))
            here = {"source": OURS, "model": study.display, "method": methods.display(method, quant), "rank": rank}
            rows.append({**here, "T": count, **dict.fromkeys(kinds), **ours, **verdict(study, point, ours, theirs)})
    return rows


def _published(row: dict[str, Any], kinds: list[str]) -> Row:
    values = {kind: row[_short(kind)] for kind in kinds if _short(kind) in row}
    name = methods.display(published.ours(row["method"]), "nf4")
    same = {"source": THEIRS, "model": row["model"], "method": name, "rank": row["rank"], "T": row["niter"]}
    return {**same, **values, "avg": row["avg"], "note": "v4 Table 8 (Table 4 is its part with T = 5)"}


def _short(kind: str) -> str:
    return kind.removesuffix("_proj")


def verdict(study: Study, point: GridPoint, ours: dict[str, float], theirs: list[Row]) -> Row:
    """Whether error reductions agree with the published ones of the same model, method, quantization, rank and T.

    By the rule of paper/words.py, with TOLERANCE as the half-width of each difference; all projections that were
    published must be there, or the averages are of different modules.
    """
    match = _match(study, point, theirs)
    if match is None:
        return _no_verdict(f"nothing published of {study.display} at this rank and T")
    if point["quant"] != QUANT:
        return _no_verdict(f"quantized to {point['quant']}, the published to {QUANT}")
    named, names = {_short(kind): value for kind, value in ours.items()}, {_short(kind): kind for kind in ours}
    if missing := [kind for kind in KINDS if kind not in named or math.isnan(named[kind])]:
        return _no_verdict(f"no number here for {', '.join(missing)}: the average would be of other modules")
    if more := sorted(named.keys() - set(KINDS)):
        return _no_verdict(f"{', '.join(more)} not published: the average would be of other modules")
    off = {kind: named[kind] - match[kind] for kind in KINDS}
    worst = max(off, key=lambda kind: abs(off[kind]))
    word = words.word(Interval(off[worst], off[worst] - TOLERANCE, off[worst] + TOLERANCE), deltas=())
    note = f"largest difference {abs(off[worst]):.2f} points ({names[worst]}), tolerance {TOLERANCE}"
    return _declared(study, {"verdict": word, "note": note})


def _match(study: Study, point: GridPoint, theirs: list[Row]) -> Row | None:
    wanted = (study.paper, point["method"], point["rank"], point["alternations"])
    rows = (row for row in theirs if (row["model"], published.ours(row["method"]), row["rank"], row["niter"]) == wanted)
    return next(rows, None)


def _no_verdict(note: str) -> Row:
    return {"verdict": NOT_COMPARABLE, "note": note}


def _declared(study: Study, found: Row) -> Row:
    """The same verdict, with what is known of the model's weights."""
    who = identity.of_model(study.sweep, study.model)
    if not who.declared:
        return found
    return {"verdict": f"{found['verdict']}, {DECLARED}", "note": f"{found['note']}; {', '.join(who.declared)}"}
