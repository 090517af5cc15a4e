"""Every method against every other one on its base, as a matrix of differences."""

from pathlib import Path

import numpy
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.figures import style
from pissa_repro.report.tables.wins import label
from pissa_repro.results.points import without_mean
from pissa_repro.results.rows import lines, read_scores
from pissa_repro.results.wins import Group, groups
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError

INCH = 0.24  # of a method
NO_GROUP = "no four methods on one base, with the same seeds and at least two items. There is no matrix to draw."
COLOURS = "PuOr_r"  # two ways that all readers can tell, white between them


def matrix(sweep: Sweep, results: Path) -> Figure:
    """A panel for each task and base: the row's method less the column's, the best first."""
    found = groups(lines(sweep, read_scores(paths.scores(results)), results)[0])
    if not found:
        raise UserError(f"{paths.scores(results)}: {NO_GROUP}")
    sizes = [INCH * max(4, len(group.lines)) + 1.5 for group in found]
    figure = Figure(figsize=(max(sizes) + 2.2, sum(sizes) + 1.2))
    spec = figure.add_gridspec(len(found), 1, height_ratios=sizes)
    for number, group in enumerate(found):
        _draw(figure, figure.add_subplot(spec[number, 0]), sweep, group)
    figure.suptitle("Every method against every other one")
    notes = [
        "row less column, mean over items and seeds",
        "dot: the 95 % t interval does not hold 0",
        "ring: nor does it after Holm's correction over all pairs of the panel",
        "orange: the row is better, violet: worse",
        without_mean(
            f"{label(sweep, line, group)} ({line.diverged} of {len(line.scores)} seeds)"
            for group in found
            for line in group.lost
        ),
    ]
    style.caption(figure, notes)
    return figure


def _draw(figure: Figure, axes: Axes, sweep: Sweep, group: Group) -> None:
    """One panel. Dots are black or white, whichever can be seen on the square below."""
    shown, first = group.first.measure, group.first
    model = style.words(sweep.config, "models", first.first.model)
    task = style.words(sweep.config, "tasks", first.task)
    base = "" if first.first.quant == "none" else f", base {first.first.quant}"
    axes.set_title(f"{model}: {task}{base}")
    if not group.duels:
        style.empty(axes, "no pair: the others diverged")
        return
    order = sorted(group.lines, key=lambda line: line.scores.mean(), reverse=shown.higher_is_better)
    place = {line: i for i, line in enumerate(order)}
    values = numpy.full((len(order), len(order)), numpy.nan)
    for duel in group.duels:
        i, j, mean = place[duel.a], place[duel.b], shown.scale * duel.mean
        values[i, j], values[j, i] = mean, -mean
    most = numpy.nanmax(numpy.abs(values)) or 1.0
    way = COLOURS if shown.higher_is_better else COLOURS.removesuffix("_r")
    picture = axes.imshow(values, cmap=way, norm=TwoSlopeNorm(0, -most, most))
    for line in order:
        for other, sign, holds in group.of(line):
            dark = abs(values[place[line], place[other]]) > 0.6 * most
            colour = "white" if dark else "black"
            if sign:
                axes.plot(place[other], place[line], ".", color=colour, markersize=3)
            if sign and holds:
                axes.plot(place[other], place[line], "o", color=colour, markersize=7, markerfacecolor="none")
    names = [label(sweep, line, group) for line in order]
    axes.set_xticks(range(len(order)), names, rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(order)), names)
    axes.tick_params(length=0, labelsize=7.5)
    axes.grid(False)
    figure.colorbar(picture, ax=axes, shrink=0.7, label=f"difference ({shown.points})")
