"""Figures of singular values and of the distribution of values: 3, 9, 10 and 11 of the paper."""

import math
from typing import Any

import numpy
from matplotlib.axes import Axes

from pissa_repro.paper import published
from pissa_repro.report.figures import study_data as data
from pissa_repro.report.figures import study_published as paper
from pissa_repro.report.figures.canvas import BASE, RESIDUAL, REST, WEIGHT, Sheet, finish
from pissa_repro.results.study import Study


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


def draw_values_of(axes: Axes, histogram: dict[str, Any], colour: str, label: str) -> numpy.ndarray:
    """The density of a matrix's values; returns the bins' middles."""
    edges = numpy.linspace(-histogram["limit"], histogram["limit"], len(histogram["counts"]) + 1)
    density = numpy.array(histogram["counts"]) / histogram["n"] / (edges[1] - edges[0])
    axes.stairs(density, edges, fill=True, color=colour, alpha=0.45, linewidth=0, label=label)
    axes.set(xlabel="value", ylabel="density")
    return (edges[1:] + edges[:-1]) / 2


def draw_fit(axes: Axes, x: numpy.ndarray, density: numpy.ndarray, facts: dict[str, float]) -> None:
    """A fitted density, and its parameters as text."""
    axes.plot(x, density, color="black", linewidth=0.9)
    axes.grid(False)
    text = "\n".join(f"{data.SYMBOLS[key]} = {data.digits(value)}" for key, value in facts.items())
    axes.annotate(text, (0.98, 0.96), xycoords="axes fraction", ha="right", va="top")


def draw_normal(axes: Axes, histogram: dict[str, Any], colour: str) -> None:
    """Values with the normal distribution of their mean and deviation."""
    mean, std = histogram["mean"], histogram["std"]
    x = draw_values_of(axes, histogram, colour, "")
    density = numpy.exp(-(((x - mean) / std) ** 2) / 2) / (std * math.sqrt(2 * math.pi))
    draw_fit(axes, x, density, {"mu": mean, "sigma": std})


def weight_and_residual(sheet: Sheet, study: Study) -> None:
    """One matrix and its residual: singular values, those of their quantization errors, and their values."""
    record = data.spectra(study)
    quant, figure = record["spec"]["quant"], sheet.block(9.6, 5.6)
    (a, b, c), (d, e, f) = figure.subplots(2, 3)
    for first, second in ((a, b), (d, e), (c, f)):
        second.sharey(first)
    f.sharex(c)
    draw_values(a, record, "W", f"(a) {WEIGHT}", BASE)
    draw_values(b, record, "residual", f"(b) {RESIDUAL}", REST)
    draw_values(d, record, "error_qlora", f"(d) {WEIGHT} \u2212 {quant}({WEIGHT})", BASE)
    draw_values(e, record, "error_pissa", f"(e) {RESIDUAL} \u2212 {quant}({RESIDUAL})", REST)
    draw_normal(c, record["distributions"]["W"], BASE)
    draw_normal(f, record["distributions"]["residual"], REST)
    draw_inset(a, record["singular_values"]["W"])
    for panel, title in ((c, f"(c) values of {WEIGHT}"), (f, f"(f) values of {RESIDUAL}")):
        panel.set_title(title)
    for panel in (a, d):
        panel.set_ylabel("singular value")
    notes = [
        *data.matrix(record),
        "curves: normal",
        f"{paper.fits(study, 'gaussian', False)}; the paper's rank is 128",
    ]
    finish(figure, study, "A weight, its residual, and the errors of quantizing them", notes)


def all_values(sheet: Sheet, study: Study) -> None:
    """The values of all weights and of all residuals."""
    record = data.spectra(study)
    figure, (axes,) = sheet.panels(1, 5.4, 3)
    for key, colour, name in (("W", BASE, WEIGHT), ("residual", REST, RESIDUAL)):
        histogram = record["all_modules"][key]
        facts = {"abs_mu": abs(histogram["mean"]), "sigma": histogram["std"]}
        text = "\n".join(f"{data.SYMBOLS[name]} = {data.digits(value)}" for name, value in facts.items())
        draw_values_of(axes, histogram, colour, f"{name}\n{text}")
    notes = [f"{record['modules']} modules", f"rank {record['spec']['rank']}", data.outside(record["all_modules"])]
    finish(figure, study, "Values of all weights and residuals", [*notes, paper.fits(study, "gaussian", True)])


def singular_values(sheet: Sheet, study: Study) -> None:
    """Singular values of a weight, as quantized, of its residual, and of every method's error."""
    record = data.spectra(study)
    wholes = {"W": WEIGHT, "quantized": f"{record['spec']['quant']}({WEIGHT})", "residual": RESIDUAL}
    errors = {key: data.look(published.ours(word)) for key, word in data.error_words(study, record).items()}
    columns = max(3, len(errors))
    figure = sheet.block(3.2 * columns, 5.4)
    grid = figure.subplots(2, columns, sharey="row")
    for panel, (key, title) in zip(grid[0], wholes.items(), strict=False):
        draw_values(panel, record, key, title, REST if key == "residual" else BASE)
    for panel, (key, look) in zip(grid[1], errors.items(), strict=False):
        draw_values(panel, record, key, f"error of {look.label}", look.colour)
    for panel in figure.axes:
        panel.set_visible(bool(panel.lines))
    for row in grid:
        row[0].set_ylabel("singular value")
    finish(figure, study, "Singular values", [*data.matrix(record), "no published numbers: the paper prints none"])


def values_with_fits(sheet: Sheet, study: Study) -> None:
    """The values of one weight and of its residual, with Student-t fits."""
    from scipy import stats

    record = data.spectra(study)
    figure, (left, right) = sheet.panels(2, 3.6, 2.8)
    right.sharex(left)
    for panel, key, colour, title in ((left, "W", BASE, WEIGHT), (right, "residual", REST, RESIDUAL)):
        fit = {name: record["student_t"][key][name] for name in ("df", "loc", "scale")}
        x = draw_values_of(panel, record["distributions"][key], colour, "")
        draw_fit(panel, x, stats.t.pdf(x, **fit), fit)
        panel.set_title(f"values of {title}")
    notes = [*data.matrix(record), "curves: Student-t, most likely", paper.fits(study, "student_t", False)]
    finish(figure, study, "Values of a weight and of its residual", notes)
