"""Training loss and gradient norm over the steps of a sweep."""

from pathlib import Path
from typing import NamedTuple

import numpy
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullLocator

from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.figures import style
from pissa_repro.report.figures.looks import Look, looks
from pissa_repro.results.curves import Curve, read_curve
from pissa_repro.results.points import missing, there


def draw_curves(axes: Axes, curves: list[tuple[Look, Curve]], marks: int) -> None:
    """Draw each curve with its band and about `marks` markers, shifted from method to method."""
    for look, curve in curves:
        stride = max(1, len(curve.steps) // marks)
        first = (int(look.shift * stride) + stride // 2) % stride
        if len(curve.values) > 1:
            low, high = curve.values.min(axis=0), curve.values.max(axis=0)
            axes.fill_between(curve.steps, low, high, color=look.colour, alpha=0.15, linewidth=0)
        axes.plot(
            curve.steps, curve.values.mean(axis=0), color=look.colour, linestyle=look.line, marker=look.marker,
            linewidth=look.width, markersize=look.size, markevery=(first, stride), label=look.label,
            markeredgecolor="white", markeredgewidth=0.4,
        )  # fmt: skip
        for ended in numpy.isnan(curve.values).any(axis=1).nonzero()[0]:
            style.mark_diverged(axes, look.colour, curve.steps[numpy.isnan(curve.values[ended]).argmax()])


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
    tops = [values[numpy.isfinite(values)] for values in shown]
    behind = scale.transform(max((values.max() for values in tops if values.size), default=high))
    bottom_value, top_value = scale.inverted().transform([low, max(high, low + (behind - low) / floor)])
    axes.set_ylim(bottom_value, top_value)
    axes.add_patch(Rectangle((edge, floor), 1 - edge, 1 - floor, transform=axes.transAxes, color="white", zorder=0.6))
    inset = axes.inset_axes((left, bottom, 0.99 - left, 0.98 - bottom))
    draw_curves(inset, [(look, curve.first(count)) for look, curve in curves], marks=4)
    set_scale(inset, axes.get_yscale())
    inset.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    inset.tick_params(labelsize=7)
    inset.margins(x=0.02)


class Shown(NamedTuple):
    """A column of train_steps.csv, and how it is shown: the figure's heading, the axis's label and scale."""

    column: str
    heading: str
    label: str
    scale: str


def draw_over_steps(sweep: Sweep, results: Path, shown: Shown) -> Figure:
    """A column over the steps: one line per method, one panel per model, dataset, rank and rate.

    Cells without a record are left out and named. Raises UserError where none has one.

    Runs of 240 steps and more are drawn as means over blocks of steps, and the caption says so. The
    inset holds single steps: a sixth of the run, at most 100 (the paper's hold 50 or 100).
    """
    figure, panels, shared = style.canvas(
        sweep, shown.heading, ("models", "datasets"), ("ranks", "learning_rates"), (7.2, 3.9)
    )
    known = looks(sweep)
    there_are, without = there(sweep, ["train_steps.csv"], results)
    names = {cell.name for cell in there_are}
    groups = [{p: [c for c in g if c.name in names] for p, g in panel.cells().items()} for panel in panels]
    read = [[(known[p], read_curve(results, g, shown.column)) for p, g in group.items() if g] for group in groups]
    longest = max(len(curve.steps) for curves in read for _, curve in curves)
    block, count = max(1, longest // 120), min(100, longest // 6)
    for panel, curves in zip(panels, read, strict=True):
        if not curves:
            style.empty(panel.axes, "no records")
            continue
        set_scale(panel.axes, shown.scale)
        draw_curves(panel.axes, [(look, curve.blocks(block)) for look, curve in curves], marks=7)
        panel.axes.margins(x=0.01)
        panel.axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    drawn = [(panel, curves) for panel, curves in zip(panels, read, strict=True) if curves]
    style.share_limits([panel for panel, _ in drawn])
    for panel, curves in drawn if count > 4 else ():
        draw_inset(panel.axes, curves, count)
    style.share_limits([panel for panel, _ in drawn])  # an inset only raises the top, so it stays clear of the curves
    lost = any(curve.diverged for _, curves in drawn for _, curve in curves)
    notes = (
        shared,
        style.DIVERGED if lost else "",
        *describe_curves(len(sweep.config["sweep"]["seeds"]), block, count),
        missing(sweep, without),
        *style.exceptions(sweep),
    )
    style.finish(figure, [panel for panel, _ in drawn], "training step", shown.label, notes)
    return figure


def describe_curves(seeds: int, block: int, count: int) -> tuple[str, str, str]:
    """What the caption says of lines, points and inset."""
    spread = f"mean of {seeds} seeds, band from least to greatest" if seeds > 1 else "one seed"
    points = f"each point the mean of {block} steps" if block > 1 else "no smoothing"
    return spread, points, f"inset: every one of the first {count} steps" if count > 4 else ""


def loss(sweep: Sweep, results: Path) -> Figure:
    """Training loss over the steps (paper, Figures 4a, 5a and 16)."""
    return draw_over_steps(sweep, results, Shown("loss", "Training loss", "loss", "linear"))


def grad_norm(sweep: Sweep, results: Path) -> Figure:
    """Gradient norm before clipping over the steps (paper, Figures 4b, 5b and 17)."""
    return draw_over_steps(sweep, results, Shown("grad_norm", "Gradient norm", "gradient norm before clipping", "log"))
