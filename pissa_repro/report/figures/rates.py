"""Final loss and score over the learning rate: a line for each method and quantization, what diverged at the top."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from pissa_repro.plan.cells import Cell
from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.figures import style
from pissa_repro.report.figures.looks import Look, looks
from pissa_repro.report.figures.scores import axis_label
from pissa_repro.report.figures.steps import set_scale
from pissa_repro.report.tables.two_rates import common_rate
from pissa_repro.results.rates import Swept, swept
from pissa_repro.runtime.record import canonical

if TYPE_CHECKING:
    from pissa_repro.plan.sections import Axis

PLAIN, QUANTIZED, DECAY = "base as it is", "quantized base", "weight decay"
MARK: dict[str, Any] = {"color": "none", "markeredgecolor": "black"}  # of a mark in the legend
SIDE = 0.04  # of a line to the next, as a share of the rate: lines of one value stay apart


class Drawn(NamedTuple):
    """One line: its look, and the rows behind it."""

    look: Look
    setting: Swept


def rate_curves(sweep: Sweep, results: Path) -> Figure:
    """A row of panels for the loss and one for the score of each task, model, data and rank; a column for each kind.

    Raises UserError as `rows.lines`.
    """
    blocks = _blocks(sweep, swept(sweep, results, common_rate(sweep)))
    kinds = [kind for kind in (PLAIN, QUANTIZED, DECAY) if any(block[kind] for block in blocks.values())]
    figure = Figure(figsize=(3.1 * max(2, len(kinds)) + 1.9, 2.5 * 2 * len(blocks) + 1.1))
    grid = figure.add_gridspec(2 * len(blocks), len(kinds))
    for number, (title, block) in enumerate(blocks.items()):
        for row, loss in ((2 * number, True), (2 * number + 1, False)):
            first: Axes | None = None
            for column, kind in enumerate(kinds):
                axes = first = figure.add_subplot(grid[row, column], sharey=first)
                _panel(axes, block[kind], loss, common_rate(sweep))
                axes.set_title(", ".join(filter(None, (title if column == 0 else "", kind))) if loss else "")
                shown = next(one for some in block.values() for one in some).setting.first.measure
                axes.set_ylabel(("final loss" if loss else axis_label(shown)) if column == 0 else "")
                axes.set_xlabel("" if loss else "learning rate")
    figure.suptitle("Over the learning rate")
    _legend(figure, blocks, sweep)
    return figure


def _blocks(sweep: Sweep, settings: list[Swept]) -> dict[str, dict[str, list[Drawn]]]:
    """The lines by what stands in the title, and by kind."""
    known, kinds = looks(sweep), _kinds(sweep)
    titles: dict[str, dict[str, list[Drawn]]] = {}
    for one in settings:
        cell, task = one.first.first, one.first.task
        values: dict[Axis, str | int] = {"models": cell.model, "datasets": cell.data, "ranks": cell.rank}
        several = [axis for axis in values if len(sweep.config["sweep"][axis]) > 1 and values[axis]]
        words = [style.words(sweep.config, axis, values[axis]) for axis in several]
        words += [task] if len({other.first.task for other in settings}) > 1 else []
        block = titles.setdefault(", ".join(words), {kind: [] for kind in (PLAIN, QUANTIZED, DECAY)})
        for kind in kinds(cell):
            block[kind].append(Drawn(known[cell.method, cell.quant], one))
    return titles


def _kinds(sweep: Sweep) -> Callable[[Cell], Iterator[str]]:
    """Says in which panels a cell stands: one with a weight decay of its own shares one with what it varies."""
    usual = sweep.config["train"]["weight_decay"]

    def definition(one: Cell) -> str:
        of = sweep.definition(one.method)
        return canonical([of["init"], of["options"], of["lora"], one.quant])

    def decays(one: Cell) -> bool:
        return bool(dict(one.train)["weight_decay"] != usual)

    varied = {definition(one) for one in sweep.cells.values() if decays(one)}

    def kinds(cell: Cell) -> Iterator[str]:
        if not decays(cell):
            yield PLAIN if cell.quant == "none" else QUANTIZED
        if definition(cell) in varied:
            yield DECAY

    return kinds


def _panel(axes: Axes, lines: list[Drawn], loss: bool, common: float | None) -> None:
    """The lines of one panel, with their bands, chosen rates and marks of what diverged."""
    axes.set_xscale("log")
    if loss:
        set_scale(axes, "log")
    rates = sorted({line.first.learning_rate for one in lines for line in one.setting.rates})
    axes.xaxis.set_major_locator(FixedLocator(rates))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.tick_params(axis="x", labelsize=7)
    axes.margins(y=0.18)
    if rates:
        axes.set_xlim(rates[0] / 1.5, rates[-1] * 1.5)
    if common in rates:
        axes.axvline(common, color=style.GREY, linewidth=0.8, linestyle=(0, (1, 2)), zorder=0.5)
    for number, one in enumerate(lines):
        _line(axes, one, loss, (1 + SIDE) ** (number - (len(lines) - 1) / 2))
    lost: dict[float, int] = {}
    for one in lines:
        for line in one.setting.rates:
            if line.diverged:
                rank = lost[line.first.learning_rate] = lost.get(line.first.learning_rate, -1) + 1
                words = f"{line.diverged}/{len(line.cells)}"
                style.mark_diverged(axes, one.look.colour, line.first.learning_rate, rank, words)


def _line(axes: Axes, one: Drawn, loss: bool, aside: float) -> None:
    """The mean over seeds and the band between the least and the greatest; broken where a seed diverged."""
    look, rows = one.look, one.setting.rates
    rates = aside * numpy.array([line.first.learning_rate for line in rows])
    values = [_values(one.setting, number, loss) for number in range(len(rows))]
    low, mean, high = (numpy.array([of(some) for some in values]) for of in (numpy.min, numpy.mean, numpy.max))
    axes.fill_between(rates, low, high, color=look.colour, alpha=0.15, linewidth=0)
    axes.plot(
        rates, mean, color=look.colour, linestyle=look.line, marker=look.marker, linewidth=look.width,
        markersize=look.size, label=look.label, markeredgecolor="white", markeredgewidth=0.4,
    )  # fmt: skip
    if (best := one.setting.best.line) is not None:
        at = rows.index(best)
        axes.plot(rates[at], mean[at], "o", markersize=9, markerfacecolor="none", markeredgecolor=look.colour)


def _values(setting: Swept, number: int, loss: bool) -> numpy.ndarray:
    """Loss or score of every seed at one rate (seeds,); NaN where one diverged."""
    line = setting.rates[number]
    if line.diverged:
        return numpy.array([numpy.nan])
    return numpy.array(line.numbers("final_loss")) if loss else (line.measure.scale * line.scores).mean(axis=1)


def _legend(figure: Figure, blocks: dict[str, dict[str, list[Drawn]]], sweep: Sweep) -> None:
    """One legend for all panels at the right, with what the marks mean, and the caption below."""
    pairs = [pair for axes in figure.axes for pair in zip(*axes.get_legend_handles_labels(), strict=True)]
    handles = {label: handle for handle, label in reversed(pairs)}
    labels = list(dict.fromkeys(label for _, label in pairs))
    settings = [one.setting for block in blocks.values() for some in block.values() for one in some]
    marks = {}
    if any(one.best.line is not None for one in settings):
        marks["best on\nvalidation items"] = Line2D([], [], marker="o", markersize=9, markerfacecolor="none", **MARK)
    if any(line.diverged for one in settings for line in one.rates):
        marks["diverged\n(of the seeds)"] = Line2D([], [], marker="x", markersize=6, markeredgewidth=1.8, **MARK)
    if (common := common_rate(sweep)) is not None:
        marks[f"one rate for all,\n{common:g}"] = Line2D([], [], color=style.GREY, linewidth=0.8, linestyle=(0, (1, 2)))
    shown = [*(handles[label] for label in labels), *marks.values()]
    figure.legend(shown, [*labels, *marks], loc="outside right center")
    style.caption(figure, _notes(sweep))


def _notes(sweep: Sweep) -> list[str]:
    """What the caption says: what all panels share, the spread, and the overrides."""
    asked = sweep.config["sweep"]
    axes: tuple[Axis, ...] = ("models", "datasets", "ranks")
    same = [style.words(sweep.config, axis, asked[axis][0]) for axis in axes if len(asked[axis]) == 1]
    seeds = len(asked["seeds"])
    spread = f"mean of {seeds} seeds, band from least to greatest" if seeds > 1 else "one seed"
    return [*same, spread, "lines are shifted sideways to stay apart", *style.exceptions(sweep)]
