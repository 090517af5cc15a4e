"""Bars by model: what several methods reach (paper, Figures 6 and 8)."""

import math
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pissa_repro import methods
from pissa_repro.paper import published
from pissa_repro.paper.printed import LOSS
from pissa_repro.plan.cells import Cell
from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.figures import style
from pissa_repro.report.figures.looks import Look, look, looks
from pissa_repro.report.figures.scores import axis_label
from pissa_repro.results.measure import measure_of
from pissa_repro.results.points import Point, diverged, having, losses, missing, scores, spread_words, there

WIDTH = 0.8  # of all bars of a group


class Bar(NamedTuple):
    """One bar: what stands below its group, the look, the mean, and its spread (points.Point.spread)."""

    group: str
    look: Look
    value: float
    spread: float | None = None


def by_model(sweep: Sweep, results: Path, heading: str, note: str, loss: bool = False, printed: bool = False) -> Figure:
    """A panel for each task, before them the final loss, in it a group of bars for each model, dataset, rank, rate.

    printed: with a panel for each benchmark of the paper's Figure 6. Raises UserError without any record.
    """
    found, without = there(sweep, ["train.json"], results)
    points = {LOSS: losses(sweep, found, results)} if loss else {}
    for task in sweep.config["sweep"]["tasks"]:
        scored = having(found, task, results)
        without += [cell for cell in found if cell not in (*scored, *without)]
        shown = measure_of(sweep.config["tasks"][task]["task"])
        label = f"{style.words(sweep.config, 'tasks', task)}: {axis_label(shown)}"
        points[label] = scores(sweep, scored, task, results)
    theirs = _published() if printed else {}
    figure = _figure({label: _bars(sweep, some) for label, some in points.items()}, theirs)
    figure.suptitle(heading)
    seeds = len({cell.seed for cell in found})
    lost = diverged(sweep, chain.from_iterable(points.values()))
    notes = [*_shared(sweep, found), spread_words(seeds), note, lost, missing(sweep, without), *style.exceptions(sweep)]
    style.caption(figure, notes)
    return figure


def _shared(sweep: Sweep, cells: list[Cell]) -> list[str]:
    """Data and ranks, for the caption."""
    data = dict.fromkeys(style.words(sweep.config, "datasets", cell.data) for cell in cells)
    ranks = sorted({cell.rank for cell in cells if cell.rank})
    return [", ".join(data), f"rank {', '.join(map(str, ranks))}" if ranks else ""]


def _bars(sweep: Sweep, points: list[Point]) -> list[Bar]:
    """The bars in groups of one model, and of one dataset, rank and rate where there are several."""
    known = looks(sweep)
    return [
        Bar("\n".join(words), known[first.method, first.quant], float(point.values.mean()), point.spread)
        for words, part in style.parts(sweep, ["models"], ["datasets", "ranks", "learning_rates"])
        for point in points
        if (first := point.cells[0]).name in part.cells
    ]


def _published() -> dict[str, list[Bar]]:
    """The bars of Figure 6 of version 3, as they were measured in its picture."""
    table, made = published.printed("fig6_models_digitised"), {}
    for name, rows in table["rows"].items():
        quants = {row["model"]: "nf4" if row["quantised"] else "none" for row in rows}
        title = {"gsm8k": "GSM8K", "humaneval": "HumanEval"}[name]
        made[f"published, {title} (%), {table['confidence']}"] = [
            Bar(row["model"], look(methods.display(word, quants[row["model"]]), word, quants[row["model"]]), row[word])
            for row in rows
            for word in ("lora", "pissa")
        ]
    return made


def _figure(panels: Mapping[str, list[Bar]], theirs: Mapping[str, list[Bar]]) -> Figure:
    """Our panels in one row, and each published one in a row of its own, for it has many models."""
    wide = max((len({bar.group for bar in bars}) for bars in theirs.values()), default=0)
    narrow = max(len(bars) for bars in panels.values())
    width = max(0.62 * narrow * len(panels) + 2.4 * len(panels), 0.9 * wide) + 1.8
    figure = Figure(figsize=(width, 3.1 * (1 + len(theirs)) + 1.2))
    rows = figure.add_gridspec(1 + len(theirs), 1)
    first = rows[0].subgridspec(1, len(panels))
    for number, (label, bars) in enumerate(panels.items()):
        _draw(figure.add_subplot(first[number]), label, bars)
    for number, (label, bars) in enumerate(theirs.items(), start=1):
        _draw(figure.add_subplot(rows[number]), label, bars)
    style.legend(figure)
    return figure


def _draw(axes: Axes, label: str, bars: list[Bar]) -> None:
    """The bars of each group together, with their values as numbers; hatched on quantized bases."""
    groups = list(dict.fromkeys(bar.group for bar in bars))
    most = max((sum(bar.group == name for bar in bars) for name in groups), default=1)
    step = WIDTH / most
    for place, name in enumerate(groups):
        here = [bar for bar in bars if bar.group == name]
        for number, bar in enumerate(here):
            x = place + step * (number - (len(here) - 1) / 2)
            edge, face, hatch = bar.look.colour, bar.look.tint, bar.look.hatch or None
            axes.bar(x, bar.value, 0.92 * step, facecolor=face, edgecolor=edge, hatch=hatch, label=bar.look.label)
            if math.isnan(bar.value):
                axes.annotate("diverged", (x, 0), (0, 3), textcoords="offset points", rotation=90, ha="center")
                continue
            if bar.spread is not None:
                axes.errorbar(x, bar.value, bar.spread, fmt="none", ecolor="black", elinewidth=1, capsize=2)
            digits = 3 if label == LOSS else 1
            top = (x, bar.value + (bar.spread or 0))
            axes.annotate(f"{bar.value:.{digits}f}", top, (0, 2), textcoords="offset points", ha="center", fontsize=7)
    axes.set_xticks(range(len(groups)), groups, fontsize=7 if len(groups) > 4 else 8)
    axes.tick_params(axis="x", length=0)
    axes.grid(False, axis="x")
    axes.set_ylabel(label)
    if len(groups) == 1:
        axes.set_xlim(-0.6, 0.6)
