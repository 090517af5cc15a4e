"""What data makes of the errors of starts: by kind of error, method and rank; and which kind goes with the loss."""

from collections.abc import Iterator
from pathlib import Path

from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.tables.table import Row, Table, headed
from pissa_repro.results.correlation import kendall
from pissa_repro.results.errors import KINDS, Line, lines
from pissa_repro.results.stats import mean_std

NAMES = {"divergence": "KL, nats a token"}  # of kinds whose column has another name


def start_errors(sweep: Sweep, results: Path, heading: str) -> Table:
    """A row for each method, quantization and rank; with the losses where the config shows what was trained."""
    found = list(lines(sweep, results, sweep.config["studies"]["trained"]))
    return headed(heading, _models(sweep, found), [_row(sweep, line) for line in found])


def _row(sweep: Sweep, line: Line) -> Row:
    cell = line.first
    row = {
        "model": sweep.config["models"][cell.model].get("display", cell.model), "method": sweep.display(cell),
        "config method": cell.method, "base": cell.quant, "rank": cell.rank, "start has seen": cell.seen or None,
    }  # fmt: skip
    row |= {NAMES.get(kind, kind): line.errors[kind] for kind in KINDS}
    row |= {f"{kind} reduction, %": value for kind, value in line.reductions.items()}
    if not line.losses:
        return row
    mean, spread = mean_std(line.losses)
    trained = {"data": cell.data, "learning rate": cell.learning_rate, "seeds": len(line.losses)}
    return row | trained | {"final loss": mean, "final loss std": spread, **_lost(line.diverged)}


def _lost(count: int) -> Row:
    """How many trainings have no loss; nothing where there is none, so that most tables have no such column."""
    return {"diverged": count} if count else {}


def predictors(sweep: Sweep, results: Path, heading: str) -> Table:
    """Kendall's tau of each kind of error with the final loss over methods and bases: at each rank, and over all."""
    found = list(lines(sweep, results, trained=True))
    groups: dict[tuple[str, str, float], list[Line]] = {}
    for line in found:
        groups.setdefault((line.first.model, line.first.data, line.first.learning_rate), []).append(line)
    rows = [row for group in groups.values() for row in _correlations(sweep, group)]
    return headed(heading, _models(sweep, found), rows)


def _correlations(sweep: Sweep, group: list[Line]) -> Iterator[Row]:
    """The rows of one model, data and learning rate."""
    cell, ranks = group[0].first, list(dict.fromkeys(line.first.rank for line in group))
    same = {
        "model": sweep.config["models"][cell.model].get("display", cell.model), "data": cell.data,
        "learning rate": cell.learning_rate,
    }  # fmt: skip
    for rank in (*ranks, "all") if len(ranks) > 1 else ranks:
        asked = [line for line in group if rank in ("all", line.first.rank)]
        here = [line for line in asked if not line.diverged]
        losses = [sum(line.losses) / len(line.losses) for line in here]
        for kind in KINDS:
            found = kendall([line.errors[kind] for line in here], losses)
            row = {**same, "rank": rank, "error": NAMES.get(kind, kind), "cells": len(here)} | _lost(
                len(asked) - len(here)
            )
            if found is None:
                yield {**row, "note": "too few cells, or all alike"}
            else:
                yield {**row, "Kendall's tau": found.tau, "low": found.low, "high": found.high}


def _models(sweep: Sweep, found: list[Line]) -> list[str]:
    names = dict.fromkeys(line.first.model for line in found)
    return [sweep.config["models"][name].get("display", name) for name in names]
