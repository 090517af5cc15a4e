"""Figures of error reductions: 2b, 7a and 14 of the paper, and over alternations, block sizes and depth."""

import math
from typing import Any, NamedTuple

import numpy
import pandas
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator
from matplotlib.transforms import ScaledTranslation

from pissa_repro.report.figures import study_data as data
from pissa_repro.report.figures import study_published as paper
from pissa_repro.report.figures.canvas import Sheet, finish
from pissa_repro.report.figures.looks import HATCHES, LINES, line_of
from pissa_repro.results.study import Study

FILLS = ("none", "bottom", "left", "top")  # of published markers
REDUCTION = "error reduction (%)"
MEAN = "means over the modules of a type, then over types"


def set_ticks(axes: Axes, name: str, values: list[int]) -> None:
    """A binary log axis with a tick at every value."""
    axes.set_xscale("log", base=2)
    axes.set_xticks(values, [str(value) for value in values])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(name)


class Lines(NamedTuple):
    """What is drawn of points: over column x, and with a line style and a label of its own for each value of `by`."""

    x: str
    by: str
    label: str


def draw_lines(axes: Axes, points: pandas.DataFrame, lines: Lines, y: str = "reduction") -> None:
    """A line of y over x for each method (colour, marker) and value of `by` (line style: a quantization's own)."""
    x, by, label = lines
    kinds = list(dict.fromkeys(points[by].sort_values()))
    for (method, kind), here in points.sort_values(x, kind="stable").groupby(["method", by], sort=False):
        look = data.look(str(method))
        axes.plot(
            here[x], here[y], color=look.colour, marker=look.marker, label=f"{look.label}, {label.format(kind)}",
            linestyle=line_of(str(kind)) if by == "kind" else LINES[kinds.index(kind) % len(LINES)],
            markeredgecolor="white", markeredgewidth=0.4,
        )  # fmt: skip


def draw_published(axes: Axes, points: pandas.DataFrame, lines: Lines, apart: float = 0) -> None:
    """Published points as hollow markers, half filled for the second value of `by`.

    apart: typographic points from method to method, to the side.
    """
    x, by, label = lines
    kinds, methods = list(dict.fromkeys(points[by].sort_values())), list(dict.fromkeys(points["method"]))
    for (method, kind), here in points.groupby(["method", by], sort=False):
        look, shift = data.look(str(method)), apart * (methods.index(method) - (len(methods) - 1) / 2)
        axes.plot(
            here[x], here["reduction"], color=look.colour, marker=look.marker, linestyle="none", markersize=5.5,
            fillstyle=FILLS[kinds.index(kind) % len(FILLS)], markerfacecoloralt="white", zorder=3,
            transform=axes.transData + ScaledTranslation(shift / 72, 0, axes.figure.dpi_scale_trans),
            label=f"{look.label}, {label.format(kind)}, published\n{here['model'].iloc[0]}",
        )  # fmt: skip
    axes.update_datalim(points[[x, "reduction"]].to_numpy(dtype=float))  # shifted lines count for nothing there
    axes.autoscale_view()


def draw_bars(axes: Axes, points: pandas.DataFrame, printed: bool) -> None:
    """Bars of error reductions with their numbers, plain quantization's first; published ones light and hatched."""
    first: dict[Any, Any] = {"method": data.PLAIN, "reduction": 0.0}
    names = []
    for x, point in enumerate([first, *points.to_dict("records")]):
        look, value = data.look(point["method"]), point["reduction"]
        colours = {"facecolor": look.tint, "hatch": HATCHES[1]} if printed else {"facecolor": look.colour}
        axes.bar(x, value, 0.76, edgecolor=look.colour, **colours)
        axes.annotate(f"{value:z.1f}", (x, max(value, 0)), (0, 2), textcoords="offset points", ha="center", fontsize=8)
        names.append(look.label + (f"\nr {point['rank']}\nT {point['alternations']}" if x else ""))
    axes.set_xticks(range(len(names)), names, fontsize=7)
    axes.tick_params(axis="x", length=0)
    axes.grid(False, axis="x")


def bars_at_a_rank(sheet: Sheet, study: Study) -> None:
    """Average error reduction at the ranks and alternations of Figure 2b."""
    table = data.errors(study, "ranks")
    means = data.averages(table)
    shown = {study.display: data.bars(means, data.rank_of(study, means))}
    for model in ("llama-3-8b", "llama-3-70b"):
        theirs = paper.reductions(model, "avg")
        shown[f"published, {paper.named(study, model)}"] = data.bars(theirs, theirs["rank"].min())
    sizes = [len(bars) + 1 for bars in shown.values()]
    figure = sheet.block(1 + 0.48 * sum(sizes), 4.1)
    axes = figure.subplots(1, len(shown), sharey=True, width_ratios=sizes)
    for panel, (title, bars) in zip(axes, shown.items(), strict=True):
        draw_bars(panel, bars, printed=panel is not axes[0])
        panel.set_title(title)
    axes[0].set_ylabel(REDUCTION)
    at = "at the largest rank only the best of the methods; plain quantization is 0 by definition"
    notes = [data.modules(table), "nf4, r: rank, T: alternations", MEAN, at, "hatched: paper, v4 Table 8"]
    finish(figure, study, "Average error reduction", notes)


def over_ranks(sheet: Sheet, study: Study, first: bool) -> None:
    """Error reduction over ranks: of the first projection type, or a panel for each of the others."""
    table, model = data.errors(study, "ranks"), paper.beside(study)
    kinds = data.kinds(study, table)
    theirs = {kind: paper.reductions(model, kind) for kind in (kinds[:1] if first else kinds[1:] or kinds)}
    figure, axes = sheet.panels(len(theirs), *((5.4, 3) if first else (2.9, 2.3)))
    published = pandas.concat(theirs.values())
    ranks = sorted({*table["rank"], *published["rank"]})
    plain = data.look(data.PLAIN)
    for panel, (kind, points) in zip(axes, theirs.items(), strict=True):
        panel.plot(ranks, [0] * len(ranks), color=plain.colour, label=f"{plain.label}: 0 by definition")
        draw_lines(panel, data.averages(table[table["type"] == kind]), Lines("rank", "alternations", "T = {}"))
        draw_published(panel, points, Lines("rank", "alternations", "T = {}"), apart=0 if first else 7)
        set_ticks(panel, "rank", ranks)
        place = panel.get_subplotspec()
        panel.set(title=kind, ylabel=REDUCTION if place and place.is_first_col() else "")
    shown = data.modules(table[table["type"].isin(theirs)])
    notes = [shown, "nf4, T: alternations", "lines: means over layers", paper.sources(study, model, published)]
    finish(figure, study, "Error reduction over rank", notes)


def over_alternations(sheet: Sheet, study: Study) -> None:
    """Average error reduction over the number of alternations."""
    table, model = data.errors(study, "alternations"), paper.beside(study)
    theirs = data.at_rank(study, paper.reductions(model, "avg"))
    figure, (axes,) = sheet.panels(1, 5.4, 3)
    draw_lines(axes, data.averages(table), Lines("alternations", "rank", "r = {}"))
    draw_published(axes, theirs, Lines("alternations", "rank", "r = {}"))
    set_ticks(axes, "alternations T", sorted({*table["alternations"], *theirs["alternations"]}))
    axes.set_ylabel(REDUCTION)
    notes = [data.modules(table), "nf4, r: rank", MEAN, paper.sources(study, model, theirs)]
    finish(figure, study, "Average error reduction over alternations", notes)


def over_blocks(sheet: Sheet, study: Study) -> None:
    """Average error reduction, and the error of plain quantization, over the block size."""
    table, model = data.errors(study, "blocks"), paper.beside(study)
    means, most, ratios = data.with_blocks(data.averages(table)), table["alternations"].max(), data.against(table)
    theirs = data.at_rank(study, paper.reductions(model, "avg"))
    theirs = data.with_blocks(theirs[theirs["alternations"] == most])
    figure, (left, right) = sheet.panels(2, 3.4, 3, share=False)
    draw_lines(left, means, Lines("block", "kind", "{}"))
    draw_published(left, theirs, Lines("block", "rank", "r = {}"))
    draw_lines(right, data.with_blocks(data.averages(ratios, "ratio")), Lines("block", "kind", "{}"), "ratio")
    left.set(title="reduction by the factors", ylabel=REDUCTION)
    right.set(title="plain quantization", ylabel=f"error / error with {data.standard(table)}")
    for panel in (left, right):
        set_ticks(panel, "block size", sorted({*means["block"], *theirs["block"]}))
    rank = f"rank {table['rank'].max()}, {most} alternations, -dq: double quantization"
    notes = [
        data.modules(table),
        rank,
        f"{MEAN}, of nuclear norms",
        data.spread(means),
        paper.sources(study, model, theirs),
    ]
    finish(figure, study, "Error over the quantization's block size", notes)


def draw_map(axes: Axes, values: pandas.DataFrame, low: float, high: float) -> Any:
    """A heat map of layers (rows, 0 at the top) and projection types, with numbers where there is room."""
    mesh = axes.pcolormesh(values, cmap="viridis", vmin=low, vmax=high, edgecolors="white", linewidth=0.4)
    axes.set_xticks(
        numpy.arange(values.shape[1]) + 0.5, values.columns, rotation=40, ha="right", rotation_mode="anchor"
    )
    shown = range(0, len(values), math.ceil(len(values) / 12))
    axes.set_yticks(numpy.array(shown) + 0.5, values.index[shown])
    axes.set(ylabel="layer", ylim=(len(values), 0))
    axes.grid(False)
    axes.tick_params(length=0)
    for (i, j), value in numpy.ndenumerate(values.to_numpy()):
        if len(values) <= 12 and numpy.isfinite(value):
            colour = "white" if value < (low + high) / 2 else "black"
            axes.annotate(f"{value:z.1f}", (j + 0.5, i + 0.5), ha="center", va="center", color=colour, fontsize=8)
    return mesh


def over_depth(sheet: Sheet, study: Study) -> None:
    """Error reduction by layer and projection type, one map per method."""
    table, model = data.errors(study, "ranks"), paper.beside(study)
    rank, most, kinds = data.rank_of(study, table), table["alternations"].max(), data.kinds(study, table)
    here = table[(table["rank"] == rank) & (table["alternations"] == most)]
    maps = data.maps(here, kinds)
    low, high = here["reduction"].min(), here["reduction"].max()
    figure, axes = sheet.panels(len(maps), 0.46 * len(kinds) + 0.7, 2 + 0.25 * min(len(next(iter(maps.values()))), 24))
    for panel, (method, values) in zip(axes, maps.items(), strict=True):
        mesh = draw_map(panel, values, low, high)
        panel.set_title(data.look(method).label)
    figure.colorbar(mesh, ax=axes, label=REDUCTION)
    shared = here.duplicated(["method", "layer", "type"]).any()
    same = "means where modules share layer and type" if shared else ""
    notes = [
        data.modules(table),
        f"rank {rank}, {most} alternations, nf4",
        same,
        paper.listed(study, model, kinds, most),
    ]
    finish(figure, study, "Error reduction by layer", notes)
