"""What all figures of a sweep share: the style of axes, the layout of panels, captions, and how a file is written.

How a method and a quantization look: looks.py.
"""

import itertools
import math
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import (  # without pyplot: the Agg and SVG canvases, no display, no global state
    Figure,
    FigureBase,
    SubFigure,
)

from pissa_repro.plan.cells import Cell
from pissa_repro.plan.labels import by_reason
from pissa_repro.plan.sections import Axis, Config
from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime.errors import unknown
from pissa_repro.runtime.record import atomic

GREY = "#555555"
FORMATS = ("svg", "png", "pdf")
DIVERGED = "x at the top: a seed diverged there; no mean over the others"  # in a caption

STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": "black",
    "ytick.labelcolor": "black",
    "lines.linewidth": 1.3,
    "lines.markersize": 4,
    "hatch.linewidth": 0.8,
    "legend.frameon": False,
    "legend.handlelength": 3,
    "legend.labelspacing": 0.7,
    "figure.titlesize": 10,
    "figure.titleweight": "bold",
    "figure.labelsize": 8,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.08,
    "savefig.dpi": 200,
    "svg.fonttype": "path",  # the same picture on a machine without this font
    "svg.hashsalt": "pissa-repro",  # the same data, the same bytes
}


@dataclass(frozen=True)
class Panel:
    """One plot of a figure: the sweep with one model, dataset, task, rank and learning rate."""

    sweep: Sweep
    axes: Axes
    group: tuple[Any, ...]  # panels of one group have the same limits

    @property
    def task(self) -> str:
        """The panel's task (the first, in a figure that has no panels by task)."""
        return self.sweep.config["sweep"]["tasks"][0]

    def cells(self) -> dict[tuple[str, str], list[Cell]]:
        """The cells of each (method, quant) in the config's order, one for each seed in the order of seeds."""
        groups: dict[tuple[str, str], list[Cell]] = {}
        for cell in sorted(self.sweep.cells.values(), key=lambda cell: cell.seed):
            groups.setdefault((cell.method, cell.quant), []).append(cell)
        return groups


def context() -> AbstractContextManager[None]:
    """The context in which figures are drawn and written; a user's matplotlibrc changes nothing."""
    return matplotlib.style.context(["default", STYLE])


def words(config: Config, axis: Axis, value: Any) -> str:
    """A value of a sweep's axis as a reader knows it; a task by its dataset, and its name where others share that."""
    if axis == "ranks":
        return f"rank {value}"
    if axis == "learning_rates":
        return f"learning rate {value:g}"
    if axis == "tasks":
        shown = {task: _benchmark(config, task) for task in {*config["sweep"]["tasks"], value}}
        alike = list(shown.values()).count(shown[value]) > 1
        return f"{shown[value]}\ntask {value}" if alike else shown[value]
    name = config[axis][value].get("display", value)
    return f"trained on {name}" if axis == "datasets" else name


def _benchmark(config: Config, task: str) -> str:
    return config["datasets"][config["tasks"][task]["dataset"]].get("display", task)


def narrow(sweep: Sweep, fixed: dict[Axis, Any]) -> Sweep:
    """The part of a sweep where each axis of `fixed` has that one value."""
    return sweep.narrowed(**{axis: [value] for axis, value in fixed.items()})


def points(sweep: Sweep, axes: Sequence[Axis]) -> list[dict[Axis, Any]]:
    """Every combination of the values that the sweep has on these axes."""
    values = itertools.product(*(sweep.config["sweep"][axis] for axis in axes))
    return [dict(zip(axes, value, strict=True)) for value in values]


def parts(sweep: Sweep, names: Sequence[Axis], rest: Sequence[Axis]) -> Iterator[tuple[tuple[str, ...], Sweep]]:
    """The part at each point of these axes, after the words of its values; of `rest` only where there are several."""
    for point in points(sweep, (*names, *rest)):
        told = [axis for axis in point if axis in names or len(sweep.config["sweep"][axis]) > 1]
        yield tuple(words(sweep.config, axis, point[axis]) for axis in told), narrow(sweep, point)


def layout(sweep: Sweep, rows: Sequence[Axis], columns: Sequence[Axis]) -> list[list[dict[Axis, Any]]]:
    """The points of the sweep over these axes as a grid; a single row or column is wrapped."""
    grid = [[row | column for column in points(sweep, columns)] for row in points(sweep, rows)]
    if len(grid) > 1 and len(grid[0]) > 1:
        return grid
    flat = list(itertools.chain(*grid))
    width = len(flat) if len(flat) < 4 else math.ceil(math.sqrt(len(flat)))
    return [flat[i : i + width] for i in range(0, len(flat), width)]


def canvas(
    sweep: Sweep, heading: str, names: Sequence[Axis], rest: Sequence[Axis], single: tuple[float, float]
) -> tuple[Figure, list[Panel], str]:
    """An empty figure with one panel for each point of the axes `names` (rows) and `rest` (columns).

    What all panels share of `names` is in the figure's title, what they share of `rest` is returned
    as text for the caption; what differs is in each panel's title. single: inches of a lone panel.
    """
    grid = layout(sweep, names, rest)
    alone = len(grid) == len(grid[0]) == 1
    width, height = single if alone else (0.6 * single[0] * max(2, len(grid[0])), 0.68 * single[1] * len(grid) + 0.8)
    figure = Figure(figsize=(width, height))
    varied = [axis for axis in (*names, *rest) if len(sweep.config["sweep"][axis]) > 1]
    spec = figure.add_gridspec(len(grid), len(grid[0]))
    panels = []
    for i, row in enumerate(grid):
        for j, point in enumerate(row):
            title = ", ".join(words(sweep.config, axis, point[axis]) for axis in varied)
            axes = figure.add_subplot(spec[i, j], title=title)
            panels.append(Panel(narrow(sweep, point), axes, tuple(point[axis] for axis in names)))
    shared = [[words(sweep.config, a, grid[0][0][a]) for a in axes if a not in varied] for axes in (names, rest)]
    figure.suptitle(": ".join(filter(None, (heading, ", ".join(shared[0])))))
    return figure, panels, ", ".join(shared[1])


def share_limits(panels: list[Panel]) -> None:
    """Give panels of one group (the same model and data, or task) the same axis of values."""
    for group in {panel.group for panel in panels}:
        axes = [panel.axes for panel in panels if panel.group == group]
        limits = [panel_axes.get_ylim() for panel_axes in axes]
        for panel_axes in axes:
            panel_axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))


def mark_diverged(axes: Axes, colour: str, x: float, rank: int = 0, words: str = "") -> None:
    """A cross at the top edge where a training diverged, and words beside it; below those of lower ranks."""
    place, height = axes.get_xaxis_transform(), 0.96 - 0.09 * rank
    axes.plot(x, height, "x", color=colour, markersize=6, markeredgewidth=1.8, transform=place, clip_on=False)
    axes.annotate(
        words, (x, height), (5, 0), xycoords=place, textcoords="offset points", va="center", fontsize=7, color=colour
    )


def finish(figure: Figure, panels: list[Panel], x: str, y: str, notes: Sequence[str]) -> None:
    """Name the axes, put one legend for all panels at the right, and the notes below as a caption."""
    for panel in panels:
        panel.axes.set_xlabel(x)
        place = panel.axes.get_subplotspec()
        panel.axes.set_ylabel(y if place and place.is_first_col() else "")
    figure.legend(*panels[0].axes.get_legend_handles_labels(), loc="outside right center")
    caption(figure, notes)


def legend(figure: Figure | SubFigure) -> None:
    """One legend for all panels of a figure or a block at the right, each label once."""
    pairs = [pair for axes in figure.axes for pair in zip(*axes.get_legend_handles_labels(), strict=True)]
    handles = {label: handle for handle, label in reversed(pairs)}
    labels = list(dict.fromkeys(label for _, label in pairs))
    if labels:
        figure.legend([handles[label] for label in labels], labels, loc="outside right center")


def empty(axes: Axes, why: str) -> None:
    """Say in a panel why nothing is drawn in it."""
    axes.annotate(why, (0.5, 0.5), xycoords="axes fraction", ha="center", va="center", color=GREY)
    axes.set(xticks=[], yticks=[])


def caption(figure: FigureBase, notes: Sequence[str]) -> None:
    """Put the notes below a figure or a block of one."""
    text = "; ".join(filter(None, notes))
    width = figure.get_figure(root=True).get_figwidth()
    lines = math.ceil(len(text) / (16 * width))  # 16 letters an inch; lines of one length
    figure.supxlabel(textwrap.fill(text, len(text) // lines + 8), color=GREY)


def exceptions(sweep: Sweep) -> list[str]:
    """Which methods the config's overrides change, and why, for the caption."""
    return by_reason((sweep.display(cell), cell.reasons) for cell in sweep.cells.values())


def save(figure: Figure, path: Path) -> None:
    """Write a figure, whole or not at all. The format is the name's ending; no date is written."""
    kind = path.suffix.removeprefix(".")
    if kind not in FORMATS:
        raise unknown("format", kind, FORMATS, f"--out {path}")
    date = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    with atomic(path, "wb") as file:
        figure.savefig(file, format=kind, metadata=date)
