"""A training at a glance: loss and gradient norm over the steps, and the scores (paper, Figures 4, 5, 12 and 13)."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pissa_repro import methods
from pissa_repro.paper import published
from pissa_repro.paper.printed import MODELS
from pissa_repro.plan.cells import Cell, by_seed
from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.figures import style
from pissa_repro.report.figures.looks import Look, look, looks
from pissa_repro.report.figures.scores import axis_label, draw_bars, name_bars
from pissa_repro.report.figures.steps import describe_curves, draw_curves, draw_inset, set_scale
from pissa_repro.results.curves import Bar, Curve, read_curve
from pissa_repro.results.measure import measure_of
from pissa_repro.results.points import missing, scores, there
from pissa_repro.runtime.errors import UserError

SHOWN = (("loss", "loss", "linear"), ("grad_norm", "gradient norm before clipping", "log"))
MARKS = 7  # markers on a curve
UNKNOWN = "the paper's curves are of 395,000 rows and three epochs; their values are not printed"
Rows = dict[tuple[str, ...], list[list[Cell]]]


def whole(sweep: Sweep, results: Path, heading: str, digitised: bool = False) -> Figure:
    """A row of panels for each model, data and rate: loss, gradient norm, and a panel of scores for each task.

    digitised: with a panel of Figure 5c's points. Raises UserError without any record.
    """
    found, without = there(sweep, ["train_steps.csv"], results)
    rows = _rows(sweep, found)
    columns = 2 + len(sweep.config["sweep"]["tasks"]) + digitised
    figure = Figure(figsize=(3.7 * columns + 1.6, 3.3 * len(rows) + 1.2))
    grid, block = figure.subplots(len(rows), columns, squeeze=False), _block(found, results)
    known, lost = looks(sweep), False
    for axes, (place, settings) in zip(grid, rows.items(), strict=True):
        pairs = [(known[some[0].method, some[0].quant], some) for some in settings]
        for panel, shown in zip(axes, SHOWN, strict=False):
            lost |= _curves(panel, pairs, shown, block, results)
        for panel, task in zip(axes[2:], sweep.config["sweep"]["tasks"], strict=False):
            without += _scores(panel, sweep, pairs, task, results)
        if digitised:
            _points(axes[-1])
        axes[0].set_ylabel("\n".join([*(place if len(rows) > 1 else ()), "loss"]))
    figure.suptitle(f"{heading}: {', '.join(dict.fromkeys(place[0] for place in rows))}")
    style.legend(figure)
    seeds = max(len(some) for settings in rows.values() for some in settings)
    notes = [*describe_curves(seeds, block, 0)[:2], "scores of the last step; none is taken in between", UNKNOWN]
    notes += [style.DIVERGED] if lost else []
    style.caption(figure, [*_shared(rows), *notes, missing(sweep, without), *style.exceptions(sweep)])
    return figure


def _rows(sweep: Sweep, cells: list[Cell]) -> Rows:
    """The settings over their seeds, by what a row of panels is of: model, data and rate, and the rank of adapters.

    The rate is among the words only where several are swept.
    """
    rows: Rows = {}
    ranks = sorted({cell.rank for cell in cells if cell.rank}) or [0]
    for place, part in style.parts(sweep, ["models", "datasets"], ["learning_rates"]):
        for some in by_seed(cell for cell in cells if cell.name in part.cells):
            for rank in [some[0].rank] if some[0].rank else ranks:
                rows.setdefault((*place, style.words(sweep.config, "ranks", rank)), []).append(some)
    return rows


def _shared(rows: Rows) -> list[str]:
    """What all rows share but the model, for the caption."""
    return [values[0] for values in list(zip(*rows, strict=True))[1:] if len(set(values)) == 1]


def _block(cells: list[Cell], results: Path) -> int:
    """How many steps a point of a curve is the mean of."""
    return max(1, max(len(read_curve(results, [some[0]], "loss").steps) for some in by_seed(cells)) // 120)


def _curves(
    axes: Axes, pairs: list[tuple[Look, list[Cell]]], shown: tuple[str, str, str], block: int, results: Path
) -> bool:
    """A column of train_steps.csv over the steps; the loss with an inset of the first ones. Whether any diverged."""
    column, label, scale = shown
    curves: list[tuple[Look, Curve]] = [(look, read_curve(results, some, column)) for look, some in pairs]
    set_scale(axes, scale)
    draw_curves(axes, [(look, curve.blocks(block)) for look, curve in curves], marks=MARKS)
    axes.margins(x=0.01)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set(xlabel="training step", ylabel=label, title=label if column == "loss" else "gradient norm")
    count = min(100, max(len(curve.steps) for _, curve in curves) // 6)
    if column == "loss" and count > 4:
        draw_inset(axes, curves, count)
    return any(curve.diverged for _, curve in curves)


def _scores(axes: Axes, sweep: Sweep, pairs: list[tuple[Look, list[Cell]]], task: str, results: Path) -> list[Cell]:
    """Bars of a task's scores. Returns the cells that have none; the panel is then left out of them."""
    shown, cells = measure_of(sweep.config["tasks"][task]["task"]), [cell for _, some in pairs for cell in some]
    axes.set_title(style.words(sweep.config, "tasks", task))
    axes.set_ylabel(axis_label(shown))
    try:
        found, without = there(sweep.only({cell.name for cell in cells}), ["train.json", f"eval/{task}.json"], results)
    except UserError:
        style.empty(axes, "no scores")
        return cells
    known = {cell.name: look for look, some in pairs for cell in some}
    points = scores(sweep, found, task, results)
    bars = [(known[point.cells[0].name], Bar(point.values, point.stderr, point.items)) for point in points]
    draw_bars(axes, bars, str(max(point.items for point in points)), shown)
    name_bars(axes, [look.label for look, _ in bars])
    return without


def _points(axes: Axes) -> None:
    """The points of the paper's Figure 5c, hollow."""
    table = published.printed("fig5c_llama3_8b_digitised")
    for row in table["rows"]:
        method, quantized = published.METHODS[row["method"]]
        quant = "nf4" if quantized else "none"
        drawn = look(methods.display(method, quant), method, quant)
        axes.plot(
            table["steps"], row["values"], color=drawn.colour, linestyle=drawn.line, marker=drawn.marker,
            markerfacecolor="white", linewidth=0.9, label=drawn.label,
        )  # fmt: skip
    axes.set(xlabel="training step", ylabel="GSM8K accuracy (%)")
    axes.set_title(f"published, {MODELS[table['model']]}: {table['paper_ref']}, {table['confidence']}", fontsize=7)
