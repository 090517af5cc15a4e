"""Gradients at the start and the first updates: Table 11 of the paper, the published numbers beside ours."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pissa_repro import methods
from pissa_repro.paper import published
from pissa_repro.paper.words import NOT_COMPARABLE
from pissa_repro.plan import gradients
from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.tables.table import Row, Table, headed
from pissa_repro.results.gradients import Found, measured
from pissa_repro.results.study import Study

UNLIKE = (
    "the paper's are of LLaMA-3-8B and MetaMathQA; on which two directions it projects, and which rows it takes, it "
    "does not say"
)


def directions(sweep: Sweep, results: Path, heading: str) -> Table:
    """A row for each quantity and method, a column for each seed of the start."""
    models = [Study(sweep, model, results) for model in gradients.models(sweep)]
    rows = [row for study in models for row in _rows(sweep, study)]
    return headed(heading, [study.display for study in models], rows)


def _rows(sweep: Sweep, study: Study) -> Iterator[Row]:
    found = measured(sweep, study)
    for factor in ("A", "B"):
        for one in found:
            values = [_pair(pair) for pair in one.directions(factor)]
            said = {"smallest_cosine": one.cosine(factor), "finding": one.finding(factor)}
            yield _row(study, f"gradient of {factor}", one, values, said, _printed(one, factor))
    for what, values_of, printed in _numbers(found[0].updates):
        for one in found:
            yield _row(study, what, one, values_of(one).tolist(), {}, printed.get(one.method))


def _row(study: Study, what: str, one: Found, values: list[Any], said: Row, printed: Any) -> Row:
    row: Row = {"model": study.display, "quantity": what, "method": methods.display(one.method, "none")}
    row |= {f"seed {seed}": value for seed, value in enumerate(values)}
    row |= {"smallest_cosine": None, "finding": None} | said
    return row | {"published": printed, "verdict": NOT_COMPARABLE, "note": UNLIKE if printed is not None else None}


def _numbers(updates: int) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Name, values by seed and published values by method of what is one number for each seed."""
    steps = published.printed("gradient_direction_v4")["first_steps"]
    by_method = {key: steps[key] for key in ("loss_after_5", "loss_step50")}
    start = dict.fromkeys(by_method["loss_step50"], steps["loss_step0"])
    yield "loss at the start", lambda one: one.losses()[:, 0], start
    yield f"loss after {updates} updates", lambda one: one.losses()[:, updates], by_method["loss_after_5"]
    yield f"loss at step {gradients.TARGET}", lambda one: one.losses()[:, -1], by_method["loss_step50"]
    way = {"A": {"lora": steps["lora_A_progress_to_step50_target_pct"]}, "B": {}}
    for factor, printed in way.items():
        words = f"progress of {factor} after {updates} updates, %"
        yield words, lambda one, factor=factor: one.progress(factor)[:, -1], printed


def _printed(one: Found, factor: str) -> str | None:
    """The published directions of all seeds."""
    for row in published.printed("gradient_direction_v4")["rows"]:
        if row["matrix"] == f"grad_{factor}" and published.ours(row["method"]) == one.method:
            return "; ".join(f"[{x:g}, {y:g}]" for x, y in row["seeds"])
    return None


def _pair(pair: list[float]) -> str:
    return f"[{', '.join(f'{value + 0:.2f}' for value in pair)}]".replace("-0.00", "0.00")
