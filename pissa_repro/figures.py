"""Draw one figure of a sweep from its records.

python -m pissa_repro.figures --config CONFIG_JSON --scores results/scores.csv --results results \
    --figure NAME --out figures/NAME.svg figures/NAME.png

loss, grad_norm: mean over seeds of every training step, with an inset of the first steps (paper,
Figures 4a, 4b, 5a, 5b, 16, 17). accuracy: the mean score of each method with its errors, a panel a task,
in the task's unit. A figure is one function (sweep, scores, results) -> Figure in FIGURES; a missing
record stops it.
"""

import argparse
import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullLocator

from pissa_repro import style
from pissa_repro.errors import run_stage, unknown
from pissa_repro.figure_data import Bar, Curve, read_bar, read_curve, read_scores
from pissa_repro.measure import PERCENT, Measure, measure_of
from pissa_repro.style import Look
from pissa_repro.sweep import Sweep

log = logging.getLogger(__name__)


def draw_curves(axes: Axes, curves: list[tuple[Look, Curve]], marks: int) -> None:
    """Draw each curve with its band and about `marks` markers, shifted from method to method."""
    for look, curve in curves:
        stride = max(1, len(curve.steps) // marks)
        start = (look.order * stride // len(style.MARKERS) + stride // 2) % stride
        if len(curve.values) > 1:
            low, high = curve.values.min(axis=0), curve.values.max(axis=0)
            axes.fill_between(curve.steps, low, high, color=look.colour, alpha=0.15, linewidth=0)
        axes.plot(
            curve.steps, curve.values.mean(axis=0), color=look.colour, linestyle=look.line, marker=look.marker,
            markevery=(start, stride), label=look.label, markeredgecolor="white", markeredgewidth=0.4,
        )  # fmt: skip


def set_scale(axes: Axes, scale: str) -> None:
    """Set the scale of the values; a log axis gets plain numbers at 1, 2 and 5."""
    axes.set_yscale(scale)
    if scale == "log":
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.yaxis.set_minor_locator(NullLocator())


def draw_inset(axes: Axes, curves: list[tuple[Look, Curve]], count: int) -> None:
    """Draw the first steps into the upper right corner; the axis is raised until no curve is behind."""
    left, bottom = 0.42, 0.54
    edge, floor = left - 0.10, bottom - 0.10  # with the tick labels
    scale = axes.yaxis.get_transform()
    low, high = scale.transform(axes.get_ylim())
    first, last = axes.get_xlim()
    shown = [curve.values[:, curve.steps >= first + edge * (last - first)] for _, curve in curves]
    behind = scale.transform(max(values.max() for values in shown if values.size))
    axes.set_ylim(scale.inverted().transform([low, max(high, low + (behind - low) / floor)]))
    axes.add_patch(Rectangle((edge, floor), 1 - edge, 1 - floor, transform=axes.transAxes, color="white", zorder=0.6))
    inset = axes.inset_axes((left, bottom, 0.99 - left, 0.98 - bottom))
    draw_curves(inset, [(look, curve.first(count)) for look, curve in curves], marks=4)
    set_scale(inset, axes.get_yscale())
    inset.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    inset.tick_params(labelsize=7)
    inset.margins(x=0.02)


def draw_over_steps(sweep: Sweep, results: Path, column: str, heading: str, label: str, scale: str) -> Figure:
    """A column of train_steps.csv over the steps: one line a method, one panel a model, dataset, rank and rate.

    Runs of 240 steps and more are drawn as means over blocks of steps, and the caption says so. The
    inset holds single steps: a sixth of the run, at most 100 (the paper's hold 50 or 100).
    """
    figure, panels, shared = style.canvas(
        sweep, heading, ("models", "datasets"), ("ranks", "learning_rates"), (7.2, 3.9)
    )
    looks = style.looks(sweep)
    read = [[(looks[p], read_curve(results, g, column)) for p, g in panel.cells().items()] for panel in panels]
    longest = max(len(curve.steps) for curves in read for _, curve in curves)
    block, count = max(1, longest // 120), min(100, longest // 6)
    for panel, curves in zip(panels, read, strict=True):
        set_scale(panel.axes, scale)
        draw_curves(panel.axes, [(look, curve.blocks(block)) for look, curve in curves], marks=7)
        panel.axes.margins(x=0.01)
        panel.axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    style.share_limits(panels)
    for panel, curves in zip(panels, read, strict=True) if count > 4 else ():
        draw_inset(panel.axes, curves, count)
    style.share_limits(panels)  # an inset only raises the top, so it stays clear of the curves
    notes = (shared, *describe_curves(len(sweep.config["sweep"]["seeds"]), block, count), *style.exceptions(sweep))
    style.finish(figure, panels, "training step", label, notes)
    return figure


def describe_curves(seeds: int, block: int, count: int) -> tuple[str, str, str]:
    """What the caption says of lines, points and inset."""
    spread = f"mean of {seeds} seeds, band from least to greatest" if seeds > 1 else "one seed"
    points = f"each point the mean of {block} steps" if block > 1 else "no smoothing"
    return spread, points, f"inset: every one of the first {count} steps" if count > 4 else ""


def loss(sweep: Sweep, scores: Path, results: Path) -> Figure:
    """Training loss over the steps (paper, Figures 4a and 5a)."""
    return draw_over_steps(sweep, results, "loss", "Training loss", "loss", "linear")


def grad_norm(sweep: Sweep, scores: Path, results: Path) -> Figure:
    """Gradient norm before clipping over the steps (paper, Figures 4b and 5b)."""
    return draw_over_steps(sweep, results, "grad_norm", "Gradient norm", "gradient norm before clipping", "log")


def draw_bars(axes: Axes, bars: list[tuple[Look, Bar]], items: str, shown: Measure) -> None:
    """Draw each bar with its seeds as dots, its two errors side by side, and its mean as text."""
    seeds = len(bars[0][1].values)
    digits = 1 if shown.unit == PERCENT else shown.digits
    for x, (look, bar) in enumerate(bars):
        mean, spread = bar.values.mean(), bar.values.std(ddof=1) if seeds > 1 else 0.0
        side = 0.22 if seeds > 1 else 0.0
        axes.bar(x, mean, 0.74, facecolor=look.tint, edgecolor=look.colour, hatch=look.hatch)
        if seeds > 1:
            error = axes.errorbar(x - side, mean, spread, fmt="none", ecolor="black", elinewidth=1.1, capsize=2.5)
            places = x + numpy.linspace(-0.07, 0.07, seeds)
            dots = axes.scatter(places, bar.values, s=12, color="white", edgecolor="black", linewidth=0.8, zorder=4)
        if bar.stderr is not None:
            broad = axes.errorbar(x + side, mean, bar.stderr, fmt="none", ecolor=style.GREY, elinewidth=3.5)
        top = max(mean + (bar.stderr or 0.0), mean + spread, bar.values.max())
        axes.annotate(f"{mean:.{digits}f}", (x, top), (0, 3), textcoords="offset points", ha="center", va="bottom")
    if bars[0][1].stderr is not None:
        broad.set_label(f"standard error over\n{items} test items\n(one run)")
    if seeds > 1:
        error.set_label(f"standard deviation\nover {seeds} seeds")
        dots.set_label("one seed")
    axes.set_ylim(0, max(shown.scale / 100, 1.08 * axes.get_ylim()[1]))  # 1 %: the scale when all scores are 0


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


def accuracy(sweep: Sweep, scores: Path, results: Path) -> Figure:
    """Mean score of each method on each task in its unit, with the spread of seeds and of items.

    Each task has a panel and an axis of its own, so that no axis has two units.
    """
    measures = {task: measure_of(sweep.config["tasks"][task]["task"]) for task in sweep.config["sweep"]["tasks"]}
    labels = {task: axis_label(shown) for task, shown in measures.items()}
    heading = "Accuracy" if {shown.name for shown in measures.values()} == {"accuracy"} else "Score"
    figure, panels, shared = style.canvas(
        sweep, heading, ("models", "tasks"), ("datasets", "ranks", "learning_rates"), (7.2, 3.6)
    )
    looks, table = style.looks(sweep), read_scores(scores)
    read = [
        [(looks[p], read_bar(table, scores, g, panel.task, measures[panel.task])) for p, g in panel.cells().items()]
        for panel in panels
    ]
    items = ", ".join(str(n) for n in sorted({bar.items for bars in read for _, bar in bars}))
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


FIGURES: dict[str, Callable[[Sweep, Path, Path], Figure]] = {
    "loss": loss,
    "grad_norm": grad_norm,
    "accuracy": accuracy,
}


def draw(name: str, sweep: Sweep, scores: Path, results: Path) -> Figure:
    """The figure of that name. Raises UserError for an unknown name or a missing record."""
    if name not in FIGURES:
        raise unknown("figure", name, FIGURES, "--figure")
    return FIGURES[name](sweep, scores, results)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, type=json.loads, help="the config as canonical JSON")
    parser.add_argument("--scores", required=True, type=Path, help="the table of all scores, scores.csv")
    parser.add_argument("--results", required=True, type=Path, help="the folder that holds cells/")
    parser.add_argument("--figure", required=True, help=f"one of: {', '.join(FIGURES)}")
    parser.add_argument("--out", required=True, type=Path, nargs="+", help="files to write: .svg, .png or .pdf")
    args = parser.parse_args(argv)
    with style.context():
        figure = draw(args.figure, Sweep(args.config), args.scores, args.results)
        for path in args.out:
            style.save(figure, path)
            log.info("%s", path)


if __name__ == "__main__":
    run_stage(main)
