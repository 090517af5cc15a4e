"""Draw one figure of the studies, the published numbers beside.

python -m pissa_repro.studies.figures --config CONFIG_JSON --results results --model MODEL --figure fig14 \
    --out figures/MODEL/fig14.svg figures/MODEL/fig14.png

fig2b, fig7a, fig14, alternations, blocks, depth: error reductions. fig3, fig9, fig10, fig11: singular
values and distributions of values. The numbers are those of the paper's figures (v4). A figure is one
function (Study) -> Figure in FIGURES; a missing record stops it.
"""

import argparse
import json
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from matplotlib.transforms import ScaledTranslation

from pissa_repro import style
from pissa_repro.errors import run_stage, unknown
from pissa_repro.studies import figure_data as data
from pissa_repro.studies.tables import Study
from pissa_repro.sweep import Sweep

log = logging.getLogger(__name__)
BASE, REST = style.GREY, style.COLOURS[2]  # W and PiSSA's residual
FILLS = ("none", "bottom", "left", "top")  # of published markers
REDUCTION = "error reduction (%)"
WEIGHT, RESIDUAL = "$W$", r"$W_{\mathrm{res}}$"
MEAN = "means over the modules of a type, then over types"


def panels(count: int, width: float, height: float, share: bool = True) -> tuple[Figure, list[Axes]]:
    """A figure with that many panels of these inches, with one axis of values where they share it."""
    columns = count if count < 4 else max(3, math.ceil(math.sqrt(count)))
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(width * columns + 1.8, height * rows + 1.2))
    spec, axes = figure.add_gridspec(rows, columns), []
    for i in range(count):
        axes.append(figure.add_subplot(spec[i // columns, i % columns], sharey=axes[0] if axes and share else None))
    return figure, axes


def finish(figure: Figure, study: Study, title: str, notes: Sequence[str]) -> Figure:
    """Title, one legend for all panels at the right, and the caption."""
    figure.suptitle(f"{title}: {study.display}")
    pairs = [pair for axes in figure.axes for pair in zip(*axes.get_legend_handles_labels(), strict=True)]
    handles = {label: handle for handle, label in reversed(pairs)}
    labels = list(dict.fromkeys(label for _, label in pairs))
    if labels:
        figure.legend([handles[label] for label in labels], labels, loc="outside right center")
    style.caption(figure, [study.display, *notes])
    return figure


def set_ticks(axes: Axes, name: str, values: list[int]) -> None:
    """A binary log axis with a tick at every value."""
    axes.set_xscale("log", base=2)
    axes.set_xticks(values, [str(value) for value in values])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(name)


def draw_lines(
    axes: Axes, study: Study, points: pandas.DataFrame, x: str, by: str, label: str, y: str = "reduction"
) -> None:
    """A line of y over x for each method (colour, marker) and value of `by` (line style)."""
    kinds = list(dict.fromkeys(points[by].sort_values()))
    for (method, kind), here in points.sort_values(x, kind="stable").groupby(["method", by], sort=False):
        look = data.look(study, method)
        axes.plot(
            here[x], here[y], color=look.colour, marker=look.marker, label=f"{look.label}, {label.format(kind)}",
            linestyle=style.LINES[kinds.index(kind) % len(style.LINES)], markeredgecolor="white", markeredgewidth=0.4,
        )  # fmt: skip


def draw_published(
    axes: Axes, study: Study, points: pandas.DataFrame, x: str, by: str, label: str, apart: float = 0
) -> None:
    """Published points as hollow markers, half filled for the second value of `by`.

    apart: typographic points from method to method, to the side.
    """
    kinds, methods = list(dict.fromkeys(points[by].sort_values())), list(dict.fromkeys(points["method"]))
    for (method, kind), here in points.groupby(["method", by], sort=False):
        look, shift = data.look(study, method), apart * (methods.index(method) - (len(methods) - 1) / 2)
        axes.plot(
            here[x], here["reduction"], color=look.colour, marker=look.marker, linestyle="none", markersize=5.5,
            fillstyle=FILLS[kinds.index(kind) % len(FILLS)], markerfacecoloralt="white", zorder=3,
            transform=axes.transData + ScaledTranslation(shift / 72, 0, axes.figure.dpi_scale_trans),
            label=f"{look.label}, {label.format(kind)}, published\n{here['model'].iloc[0]}",
        )  # fmt: skip
    axes.update_datalim(points[[x, "reduction"]].to_numpy(dtype=float))  # shifted lines count for nothing there
    axes.autoscale_view()


def draw_bars(axes: Axes, study: Study, points: pandas.DataFrame, printed: bool) -> None:
    """Bars of error reductions with their numbers, plain quantization's first; published ones light and hatched."""
    first = {"method": data.PLAIN, "reduction": 0.0}
    names = []
    for x, point in enumerate([first, *points.to_dict("records")]):
        look, value = data.look(study, point["method"]), point["reduction"]
        colours = {"facecolor": look.tint, "hatch": style.HATCHES[1]} if printed else {"facecolor": look.colour}
        axes.bar(x, value, 0.76, edgecolor=look.colour, **colours)
        axes.annotate(f"{value:z.1f}", (x, max(value, 0)), (0, 2), textcoords="offset points", ha="center", fontsize=8)
        names.append(look.label + (f"\nr {point['rank']}\nT {point['alternations']}" if x else ""))
    axes.set_xticks(range(len(names)), names, fontsize=7)
    axes.tick_params(axis="x", length=0)
    axes.grid(False, axis="x")


def fig2b(study: Study) -> Figure:
    """Average error reduction at the ranks and alternations of Figure 2b."""
    table = data.errors(study, "ranks")
    means = data.averages(table)
    shown = {study.display: data.bars(means, data.rank_of(study, means))}
    for model in ("llama-3-8b", "llama-3-70b"):
        theirs = data.published_reductions(model, "avg")
        shown[f"published, {data.named(study, model)}"] = data.bars(theirs, theirs["rank"].min())
    sizes = [len(bars) + 1 for bars in shown.values()]
    figure = Figure(figsize=(1 + 0.48 * sum(sizes), 4.1))
    axes = figure.subplots(1, len(shown), sharey=True, width_ratios=sizes)
    for one, (title, bars) in zip(axes, shown.items(), strict=True):
        draw_bars(one, study, bars, printed=one is not axes[0])
        one.set_title(title)
    axes[0].set_ylabel(REDUCTION)
    at = "at the largest rank only the best of the methods; plain quantization is 0 by definition"
    notes = [data.modules(table), "nf4, r: rank, T: alternations", MEAN, at, "hatched: paper, v4 Table 8"]
    return finish(figure, study, "Average error reduction", notes)


def over_ranks(study: Study, first: bool) -> Figure:
    """Error reduction over ranks: of the first projection type, or a panel for each of the others."""
    table, model = data.errors(study, "ranks"), data.beside(study)
    kinds = data.kinds(study, table)
    theirs = {kind: data.published_reductions(model, kind) for kind in (kinds[:1] if first else kinds[1:] or kinds)}
    figure, axes = panels(len(theirs), *((5.4, 3) if first else (2.9, 2.3)))
    found = pandas.concat(theirs.values())
    ranks = sorted({*table["rank"], *found["rank"]})
    plain = data.look(study, data.PLAIN)
    for one, (kind, points) in zip(axes, theirs.items(), strict=True):
        one.plot(ranks, [0] * len(ranks), color=plain.colour, label=f"{plain.label}: 0 by definition")
        draw_lines(one, study, data.averages(table[table["type"] == kind]), "rank", "alternations", "T = {}")
        draw_published(one, study, points, "rank", "alternations", "T = {}", apart=0 if first else 7)
        set_ticks(one, "rank", ranks)
        one.set(title=kind, ylabel=REDUCTION if one.get_subplotspec().is_first_col() else "")
    shown = data.modules(table[table["type"].isin(theirs)])
    notes = [shown, "nf4, T: alternations", "lines: means over layers", data.sources(study, model, found)]
    return finish(figure, study, "Error reduction over rank", notes)


def fig7a(study: Study) -> Figure:
    """Error reduction of the first projection type over ranks."""
    return over_ranks(study, first=True)


def fig14(study: Study) -> Figure:
    """Error reduction of the other projection types over ranks."""
    return over_ranks(study, first=False)


def alternations(study: Study) -> Figure:
    """Average error reduction over the number of alternations."""
    table, model = data.errors(study, "turns"), data.beside(study)
    theirs = data.at_rank(study, data.published_reductions(model, "avg"))
    figure, (axes,) = panels(1, 5.4, 3)
    draw_lines(axes, study, data.averages(table), "alternations", "rank", "r = {}")
    draw_published(axes, study, theirs, "alternations", "rank", "r = {}")
    set_ticks(axes, "alternations T", sorted({*table["alternations"], *theirs["alternations"]}))
    axes.set_ylabel(REDUCTION)
    notes = [data.modules(table), "nf4, r: rank", MEAN, data.sources(study, model, theirs)]
    return finish(figure, study, "Average error reduction over alternations", notes)


def blocks(study: Study) -> Figure:
    """Average error reduction, and the error of plain quantization, over the block size."""
    table, model = data.errors(study, "blocks"), data.beside(study)
    means, turns, ratios = data.with_blocks(data.averages(table)), table["alternations"].max(), data.against(table)
    theirs = data.at_rank(study, data.published_reductions(model, "avg"))
    theirs = data.with_blocks(theirs[theirs["alternations"] == turns])
    figure, (left, right) = panels(2, 3.4, 3, share=False)
    draw_lines(left, study, means, "block", "kind", "{}")
    draw_published(left, study, theirs, "block", "rank", "r = {}")
    draw_lines(right, study, data.with_blocks(data.averages(ratios, "ratio")), "block", "kind", "{}", "ratio")
    left.set(title="reduction by the factors", ylabel=REDUCTION)
    right.set(title="plain quantization", ylabel=f"error / error with {data.standard(table)}")
    for one in (left, right):
        set_ticks(one, "block size", sorted({*means["block"], *theirs["block"]}))
    rank = f"rank {table['rank'].max()}, {turns} alternations, -dq: double quantization"
    notes = [
        data.modules(table),
        rank,
        f"{MEAN}, of nuclear norms",
        data.spread(means),
        data.sources(study, model, theirs),
    ]
    return finish(figure, study, "Error over the quantization's block size", notes)


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


def depth(study: Study) -> Figure:
    """Error reduction by layer and projection type, a map a method."""
    table, model = data.errors(study, "ranks"), data.beside(study)
    rank, turns, kinds = data.rank_of(study, table), table["alternations"].max(), data.kinds(study, table)
    here = table[(table["rank"] == rank) & (table["alternations"] == turns)]
    maps = data.maps(here, kinds)
    low, high = here["reduction"].min(), here["reduction"].max()
    figure, axes = panels(len(maps), 0.46 * len(kinds) + 0.7, 2 + 0.25 * min(len(next(iter(maps.values()))), 24))
    for one, (method, values) in zip(axes, maps.items(), strict=True):
        mesh = draw_map(one, values, low, high)
        one.set_title(data.look(study, method).label)
    figure.colorbar(mesh, ax=axes, label=REDUCTION)
    shared = here.duplicated(["method", "layer", "type"]).any()
    same = "means where modules share layer and type" if shared else ""
    notes = [
        data.modules(table),
        f"rank {rank}, {turns} alternations, nf4",
        same,
        data.listed(study, model, kinds, turns),
    ]
    return finish(figure, study, "Error reduction by layer", notes)


def draw_values(axes: Axes, record: dict[str, Any], key: str, title: str, colour: str) -> None:
    """All singular values of a matrix."""
    values = record["singular_values"][key]
    axes.plot(range(1, len(values) + 1), values, color=colour)
    axes.set(title=f"{title}; sum {sum(values):.4g}", xlabel="index")
    axes.set_ylim(0, auto=True)  # the top still follows panels with the same axis


def draw_inset(axes: Axes, values: list[float]) -> None:
    """The first 100 values, at most a sixth of them, in the upper right corner; the axis keeps the curve below it."""
    count, (_, top) = max(2, min(100, len(values) // 6)), axes.get_ylim()
    axes.set_ylim(0, max(top, values[int(0.3 * len(values))] / 0.38))
    inset = axes.inset_axes((0.46, 0.5, 0.52, 0.47))
    inset.plot(range(1, count + 1), values[:count], color=BASE)
    inset.annotate(f"the first {count}", (0.97, 0.93), xycoords="axes fraction", ha="right", va="top", fontsize=7)
    inset.tick_params(labelsize=7)


def draw_values_of(axes: Axes, found: dict[str, Any], colour: str, label: str) -> numpy.ndarray:
    """The density of a matrix's values; returns the bins' middles."""
    edges = numpy.linspace(-found["limit"], found["limit"], len(found["counts"]) + 1)
    density = numpy.array(found["counts"]) / found["n"] / (edges[1] - edges[0])
    axes.stairs(density, edges, fill=True, color=colour, alpha=0.45, linewidth=0, label=label)
    axes.set(xlabel="value", ylabel="density")
    return (edges[1:] + edges[:-1]) / 2


def draw_fit(axes: Axes, x: numpy.ndarray, density: numpy.ndarray, facts: dict[str, float]) -> None:
    """A fitted density, and its parameters as text."""
    axes.plot(x, density, color="black", linewidth=0.9)
    axes.grid(False)
    text = "\n".join(f"{data.SYMBOLS[key]} = {data.digits(value)}" for key, value in facts.items())
    axes.annotate(text, (0.98, 0.96), xycoords="axes fraction", ha="right", va="top")


def draw_normal(axes: Axes, found: dict[str, Any], colour: str, label: str = "") -> None:
    """Values with the normal distribution of their mean and deviation."""
    mean, std = found["mean"], found["std"]
    x = draw_values_of(axes, found, colour, label)
    density = numpy.exp(-(((x - mean) / std) ** 2) / 2) / (std * math.sqrt(2 * math.pi))
    draw_fit(axes, x, density, {"mu": mean, "sigma": std})


def fig3(study: Study) -> Figure:
    """One matrix and its residual: singular values, those of their quantization errors, and their values."""
    record = data.spectra(study)
    quant, figure = record["spec"]["quant"], Figure(figsize=(9.6, 5.6))
    (a, b, c), (d, e, f) = figure.subplots(2, 3)
    for one, other in ((a, b), (d, e), (c, f)):
        other.sharey(one)
    f.sharex(c)
    draw_values(a, record, "W", f"(a) {WEIGHT}", BASE)
    draw_values(b, record, "residual", f"(b) {RESIDUAL}", REST)
    draw_values(d, record, "error_qlora", f"(d) {WEIGHT} \u2212 {quant}({WEIGHT})", BASE)
    draw_values(e, record, "error_pissa", f"(e) {RESIDUAL} \u2212 {quant}({RESIDUAL})", REST)
    draw_normal(c, record["distributions"]["W"], BASE)
    draw_normal(f, record["distributions"]["residual"], REST)
    draw_inset(a, record["singular_values"]["W"])
    for one, title in ((c, f"(c) values of {WEIGHT}"), (f, f"(f) values of {RESIDUAL}")):
        one.set_title(title)
    for one in (a, d):
        one.set_ylabel("singular value")
    notes = [*data.matrix(record), "curves: normal", f"{data.fits(study, 'gaussian', False)}; the paper's rank is 128"]
    return finish(figure, study, "A weight, its residual, and the errors of quantizing them", notes)


def fig9(study: Study) -> Figure:
    """The values of all weights and of all residuals."""
    record = data.spectra(study)
    figure, (axes,) = panels(1, 5.4, 3)
    for key, colour, name in (("W", BASE, WEIGHT), ("residual", REST, RESIDUAL)):
        found = record["all_modules"][key]
        facts = {"abs_mu": abs(found["mean"]), "sigma": found["std"]}
        text = "\n".join(f"{data.SYMBOLS[name]} = {data.digits(value)}" for name, value in facts.items())
        draw_values_of(axes, found, colour, f"{name}\n{text}")
    notes = [f"{record['modules']} modules", f"rank {record['spec']['rank']}", data.outside(record["all_modules"])]
    return finish(figure, study, "Values of all weights and residuals", [*notes, data.fits(study, "gaussian", True)])


def fig10(study: Study) -> Figure:
    """Singular values of a weight, as quantized, of its residual, and of every method's error."""
    record = data.spectra(study)
    wholes = {"W": WEIGHT, "quantized": f"{record['spec']['quant']}({WEIGHT})", "residual": RESIDUAL}
    errors = {key: data.look(study, data.ours(word)) for key, word in data.error_words(study, record).items()}
    columns = max(3, len(errors))
    figure = Figure(figsize=(3.2 * columns, 5.4))
    grid = figure.subplots(2, columns, sharey="row")
    for one, (key, title) in zip(grid[0], wholes.items(), strict=False):
        draw_values(one, record, key, title, REST if key == "residual" else BASE)
    for one, (key, look) in zip(grid[1], errors.items(), strict=False):
        draw_values(one, record, key, f"error of {look.label}", look.colour)
    for one in figure.axes:
        one.set_visible(bool(one.lines))
    for row in grid:
        row[0].set_ylabel("singular value")
    return finish(
        figure, study, "Singular values", [*data.matrix(record), "no published numbers: the paper prints none"]
    )


def fig11(study: Study) -> Figure:
    """The values of one weight and of its residual, with Student-t fits."""
    from scipy import stats

    record = data.spectra(study)
    figure, (left, right) = panels(2, 3.6, 2.8)
    right.sharex(left)
    for one, key, colour, title in ((left, "W", BASE, WEIGHT), (right, "residual", REST, RESIDUAL)):
        fit = {name: record["student_t"][key][name] for name in ("df", "loc", "scale")}
        x = draw_values_of(one, record["distributions"][key], colour, "")
        draw_fit(one, x, stats.t.pdf(x, **fit), fit)
        one.set_title(f"values of {title}")
    notes = [*data.matrix(record), "curves: Student-t, most likely", data.fits(study, "student_t", False)]
    return finish(figure, study, "Values of a weight and of its residual", notes)


FIGURES: dict[str, Callable[[Study], Figure]] = {
    "fig2b": fig2b,
    "fig3": fig3,
    "fig7a": fig7a,
    "fig9": fig9,
    "fig10": fig10,
    "fig11": fig11,
    "fig14": fig14,
    "alternations": alternations,
    "blocks": blocks,
    "depth": depth,
}


def draw(name: str, study: Study) -> Figure:
    """The figure of that name. Raises UserError for an unknown name or model, or a missing record."""
    if name not in FIGURES:
        raise unknown("figure", name, FIGURES, "--figure")
    return FIGURES[name](study)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, type=json.loads, help="the config as canonical JSON")
    parser.add_argument("--results", type=Path, default=Path("results"), help="the results folder")
    parser.add_argument("--model", required=True, help="a model of config.studies.models")
    parser.add_argument("--figure", required=True, help=f"one of: {', '.join(FIGURES)}")
    parser.add_argument("--out", required=True, type=Path, nargs="+", help="files to write: .svg, .png or .pdf")
    args = parser.parse_args(argv)
    with style.context():
        figure = draw(args.figure, Study(Sweep(args.config), args.model, args.results))
        for path in args.out:
            style.save(figure, path)
            log.info("%s", path)


if __name__ == "__main__":
    run_stage(main)
