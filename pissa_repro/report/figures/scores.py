"""The scores of a sweep as bars."""

from pathlib import Path
from typing import Any

import numpy
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.figures import style
from pissa_repro.report.figures.looks import Look, looks
from pissa_repro.results.curves import Bar, read_bar, read_scores
from pissa_repro.results.measure import PERCENT, Measure, measure_of
from pissa_repro.runtime import paths


def draw_bars(axes: Axes, bars: list[tuple[Look, Bar]], items: str, shown: Measure) -> None:
    """Draw each bar with its seeds as dots, its two errors side by side, and its mean as text.

    Where a seed diverged there is no bar: how many did stands in its place, and the others are dots.
    """
    digits = 1 if shown.unit == PERCENT else shown.digits
    labels: dict[str, Any] = {}
    for x, (look, bar) in enumerate(bars):
        seeds = len(bar.values)  # a bar may lack some
        if seeds > 1:
            places = x + numpy.linspace(-0.07, 0.07, seeds)
            dots = axes.scatter(places, bar.values, s=12, color="white", edgecolor="black", linewidth=0.8, zorder=4)
            labels.setdefault("one seed", dots)
        if bar.diverged:
            words = f"diverged ({bar.diverged} of {seeds})"
            axes.annotate(
                words, (x, 0), (0, 4), textcoords="offset points", rotation=90, ha="center", color=look.colour,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
            )  # fmt: skip
            continue
        labels |= _bar(axes, x, look, bar, items)
        mean, spread = bar.values.mean(), bar.values.std(ddof=1) if seeds > 1 else 0.0
        top = max(mean + (bar.stderr or 0.0), mean + spread, bar.values.max())
        axes.annotate(f"{mean:.{digits}f}", (x, top), (0, 3), textcoords="offset points", ha="center", va="bottom")
    for label, handle in labels.items():
        handle.set_label(label)
    if any(bar.diverged for _, bar in bars):  # no bar there makes room for its words
        axes.set_xlim(-0.6, len(bars) - 0.4)
    axes.set_ylim(0, max(shown.scale / 100, 1.08 * axes.get_ylim()[1]))  # 1 %: the scale when all scores are 0


def _bar(axes: Axes, x: int, look: Look, bar: Bar, items: str) -> dict[str, Any]:
    """One bar with its errors, which it returns by their labels."""
    seeds, mean = len(bar.values), bar.values.mean()
    side, labels = 0.22 if seeds > 1 else 0.0, {}
    axes.bar(x, mean, 0.74, facecolor=look.tint, edgecolor=look.colour, hatch=look.hatch)
    if seeds > 1:
        spread = bar.values.std(ddof=1)
        error = axes.errorbar(x - side, mean, spread, fmt="none", ecolor="black", elinewidth=1.1, capsize=2.5)
        labels[f"standard deviation\nover {seeds} seeds"] = error
    if bar.stderr is not None:
        broad = axes.errorbar(x + side, mean, bar.stderr, fmt="none", ecolor=style.GREY, elinewidth=3.5)
        labels[f"standard error over\n{items} test items\n(one run)"] = broad
    return labels


def name_bars(axes: Axes, labels: list[str]) -> None:
    """Write the methods' names below the bars, turned where they would not fit."""
    fits = max(map(len, labels)) * len(labels) <= 52
    axes.set_xticks(range(len(labels)), labels)
    if not fits:
        axes.tick_params(axis="x", labelrotation=35)
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
    axes.tick_params(axis="x", length=0)
    axes.grid(False, axis="x")


def accuracy(sweep: Sweep, results: Path) -> Figure:
    """Mean score of each method on each task in its unit, with the spread of seeds and of items.

    Each task has a panel and an axis of its own, so that no axis has two units.
    """
    measures = {task: measure_of(sweep.config["tasks"][task]["task"]) for task in sweep.config["sweep"]["tasks"]}
    labels = {task: axis_label(shown) for task, shown in measures.items()}
    heading = "Accuracy" if {shown.name for shown in measures.values()} == {"accuracy"} else "Score"
    figure, panels, shared = style.canvas(
        sweep, heading, ("models", "tasks"), ("datasets", "ranks", "learning_rates"), (7.2, 3.6)
    )
    scores = paths.scores(results)
    known, table = looks(sweep), read_scores(scores)
    read = [
        [(known[p], read_bar(table, scores, g, panel.task, measures[panel.task])) for p, g in panel.cells().items()]
        for panel in panels
    ]
    items = ", ".join(str(n) for n in sorted({bar.items for bars in read for _, bar in bars} - {0}))
    for panel, bars in zip(panels, read, strict=True):
        draw_bars(panel.axes, bars, items, measures[panel.task])
        name_bars(panel.axes, [look.label for look, _ in bars])
    style.share_limits(panels)
    seeds = len(sweep.config["sweep"]["seeds"])
    mean = f"bars and numbers: mean of {seeds} seeds" if seeds > 1 else "one seed"
    notes = (shared, mean, "hatched: quantized base", *style.exceptions(sweep))
    style.finish(figure, panels, "", labels[panels[0].task], notes)
    for panel in panels if len(set(labels.values())) > 1 else ():
        panel.axes.set_ylabel(labels[panel.task])
    return figure


def axis_label(shown: Measure) -> str:
    """The unit of an axis of scores, and which way is better where it is not up."""
    return f"{shown.name} ({shown.symbol}{'' if shown.higher_is_better else '; lower is better'})"
