"""The toy of the paper's Figure 2a: paths on the landscape of the loss, and the loss over the epochs."""

import math
from pathlib import Path
from typing import Any

import numpy
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator

from pissa_repro.paper import published
from pissa_repro.plan import toy
from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.figures.canvas import Block, Sheet, close
from pissa_repro.report.figures.looks import plain
from pissa_repro.report.figures.steps import draw_curves, set_scale
from pissa_repro.report.figures.study_published import sureness
from pissa_repro.results.curves import Curve
from pissa_repro.results.records import checked
from pissa_repro.results.stats import mean_std, seed_margin
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError

NAMES = {"digits": "8 \u00d7 8 digits of scikit-learn, not MNIST", "mnist": "MNIST"}
Losses = dict[str, numpy.ndarray]  # of each method, (seeds, epochs)


def landscape_and_losses(sweep: Sweep, results: Path) -> Figure:
    """Both variants of the toy, a block each. Raises UserError for losses that are no finite numbers."""
    path = paths.toy(results)
    record = checked(path, toy.spec(sweep))
    sheet = Sheet(len(toy.VARIANTS))
    for name in toy.VARIANTS:
        made = record["variants"][name]
        losses = {method: numpy.array(made["losses"][method], dtype=float) for method in toy.METHODS}
        for method, values in losses.items():
            if not numpy.isfinite(values).all():
                raise UserError(f"{path}: {name}, {method}: a loss is no finite number. Delete it and run again.")
        figure = sheet.block(9.4, 4.0)
        left, right = figure.subplots(1, 2)
        draw_landscape(figure, left, made["landscape"])
        draw_losses(right, losses)
        close(figure, f"A toy fine-tuned, as {name}", [*setting(record, name), *outcome(losses)])
    return sheet.figure


def draw_landscape(figure: Block, axes: Axes, made: dict[str, Any]) -> None:
    """The loss of even digits on the plane, and the paths of the methods on it."""
    heights = numpy.exp(made["log_loss"])
    levels = numpy.geomspace(heights.min(), heights.max(), 25)
    filled = axes.contourf(made["x"], made["y"], heights, levels=levels, norm=LogNorm(), cmap="Greys", alpha=0.6)
    bar = figure.colorbar(filled, ax=axes, label="loss (nats)")
    bar.ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    bar.ax.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    bar.ax.minorticks_off()
    for method, way in made["paths"].items():
        own, (x, y) = plain(method), numpy.array(way).T
        axes.plot(x, y, color=own.colour, linestyle=own.line, linewidth=1.8)
        axes.plot(x[-1:], y[-1:], color=own.colour, marker=own.marker, markersize=8, markeredgecolor="white")
    axes.plot(0, 0, color="black", marker="+", markersize=10, markeredgewidth=1.5)
    axes.annotate("start", (0, 0), xytext=(6, 6), textcoords="offset points")
    axes.grid(False)
    axes.set(title="seed 0: ways of the weights", xlabel="first direction", ylabel="second direction")


def draw_losses(axes: Axes, losses: Losses) -> None:
    """The loss over the epochs, and the published last ones as hollow markers beside the end."""
    curves = [(plain(method), Curve(numpy.arange(values.shape[1]), values)) for method, values in losses.items()]
    set_scale(axes, "log")
    draw_curves(axes, curves, marks=7)
    last = max(values.shape[1] for values in losses.values()) - 1
    for method, value in theirs().items():
        own = plain(method)
        axes.plot(
            last * 1.04, value, color=own.colour, marker=own.marker, markersize=7, fillstyle="none", linestyle="None",
            label=f"{own.label}, published\n(MNIST)",
        )  # fmt: skip
    axes.set(title="loss on even digits", xlabel="epoch (one update)", ylabel="loss (nats)")


def theirs() -> dict[str, float]:
    """The losses that the paper prints in its figure, by our method."""
    table = published.printed("mnist_toy_losses")
    return {published.ours(row["method"]): row["loss"] for row in table["rows"]}


def setting(record: dict[str, Any], name: str) -> list[str]:
    """What the caption says of a variant."""
    spec, made = record["spec"], record["variants"][name]
    variant, (hidden, inputs) = spec["variants"][name], made["shapes"][0]
    seen = f"{inputs} principal components of raw pixels" if variant["components"] else f"{inputs} standardised pixels"
    full = variant["rank"] >= min(min(shape) for shape in made["shapes"])
    return [
        NAMES[spec["data"]],
        f"{seen}, {hidden} hidden units, rank {variant['rank']}" + (", which is full rank" if full else ""),
        f"{made['odd']:,} odd digits \u00d7 {spec['pretrain_epochs']} epochs, then {made['even']:,} even ones",
        f"Adam, rate {spec['learning_rate']:g}, full batches",
        f"published: {sureness(published.printed('mnist_toy_losses')['confidence'])}, one seed",
    ]


def outcome(losses: Losses) -> list[str]:
    """The last losses, the differences to the method with the least published loss, and whose order comes out."""
    last = {method: values[:, -1] for method, values in losses.items()}
    wanted = sorted(theirs(), key=theirs().__getitem__)
    best, seeds = wanted[0], len(last[wanted[0]])
    spread = (f"mean of {seeds} seeds, band from least to greatest; last losses, \u00b1 standard deviation: "
              if seeds > 1 else "one seed; last losses: ")  # fmt: skip
    same = sum(sorted(wanted, key=lambda method: float(last[method][seed])) == wanted for seed in range(seeds))
    order = " < ".join(plain(method).label for method in wanted)
    return [
        spread + ", ".join(f"{plain(method).label} {_mean(last[method])}" for method in wanted),
        *(_difference(best, other, last) for other in wanted[1:] if seeds > 1),
        f"the published order {order} in {same} of {seeds} seeds",
    ]


def _mean(values: numpy.ndarray) -> str:
    mean, std = mean_std(values.tolist())
    return f"{mean:.3f}" if std is None else f"{mean:.3f} \u00b1 {std:.3f}"


def _difference(a: str, b: str, last: Losses) -> str:
    """The mean difference of paired seeds with its 95 % interval (t)."""
    apart = last[a] - last[b]
    mean, margin = float(apart.mean()), seed_margin(apart[:, None])
    word = "no difference shown" if math.fabs(mean) <= margin else "lower" if mean < 0 else "higher"
    return f"{plain(a).label} \u2212 {plain(b).label}: {mean:+.3f} [{mean - margin:+.3f}, {mean + margin:+.3f}] {word}"
