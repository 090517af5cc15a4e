"""How far each projection type has moved, and the spectrum of the update."""

from pathlib import Path
from statistics import fmean
from typing import Any

import numpy
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.figures import style
from pissa_repro.report.figures.looks import Look, looks
from pissa_repro.results.points import without_mean
from pissa_repro.results.updates import Moved, moved


def updates(sweep: Sweep, results: Path) -> Figure:
    """Two panels for each model, training data, rank and learning rate: sizes by type, singular values of dW."""
    known = looks(sweep)
    groups: dict[tuple[object, ...], list[Moved]] = {}
    lost = []
    for one in moved(sweep, results):
        if one.diverged:
            rank = f" rank {one.first.rank}" if one.first.rank else ""
            lost.append(f"{sweep.display(one.first)}{rank} ({one.diverged} of {len(one.cells)} seeds)")
        groups.setdefault((one.first.model, one.first.data), []).append(one)
    figure = Figure(figsize=(10.6, 3.8 * len(groups) + 0.9))
    spec = figure.add_gridspec(len(groups), 2)
    labels: dict[str, Any] = {}
    for number, found in enumerate(groups.values()):
        axes = [figure.add_subplot(spec[number, column]) for column in range(2)]
        shown = [(one, known[one.first.method, one.first.quant]) for one in found if not one.diverged]
        for panel, draw in zip(axes, (_sizes, _spectra), strict=True):
            if shown:
                draw(panel, shown)
            else:
                style.empty(panel, "no numbers: all diverged")
        handles, names = axes[1].get_legend_handles_labels()
        labels |= dict(zip(names, handles, strict=True))
        model = style.words(sweep.config, "models", found[0].first.model)
        data = style.words(sweep.config, "datasets", found[0].first.data)
        axes[0].set_title(f"{model}, {data}", loc="left")
    figure.suptitle("How far the training has moved the weights")
    columns = 1 + len(labels) // 26
    figure.legend(list(labels.values()), list(labels), loc="outside right upper", ncols=columns, fontsize=7.5)
    notes = ["means over layers and seeds", "from the start of the training to its end: no quantization error is in it"]
    several = any(
        len({(m.first.rank, m.first.learning_rate) for m in some if m.first.rank}) > 1 for some in groups.values()
    )
    notes += ["a line for each rank and learning rate"] if several else []
    style.caption(figure, [*notes, "DoRA is not measured", without_mean(lost)])
    return figure


def _sizes(axes: Axes, shown: list[tuple[Moved, Look]]) -> None:
    kinds = list(dict.fromkeys(kind for one, _ in shown for kind in one.by_type()))
    spread = numpy.linspace(-0.3, 0.3, len(shown)) if len(shown) > 1 else numpy.zeros(1)
    for (one, look), shift in zip(shown, spread, strict=True):
        sizes = {kind: fmean(fact["size"] for fact in facts) for kind, facts in one.by_type().items()}
        places = [kinds.index(kind) + shift for kind in sizes]
        face = look.colour if look.line == "-" else "white"
        axes.plot(
            places, list(sizes.values()), marker=look.marker, color=look.colour, markersize=look.size,
            markerfacecolor=face, linestyle="",
        )  # fmt: skip
    axes.set_yscale("log")
    axes.set_xticks(range(len(kinds)), kinds, rotation=25, ha="right", rotation_mode="anchor")
    axes.set_xlim(-0.6, len(kinds) - 0.4)
    axes.grid(False, axis="x")
    axes.set_ylabel("|dW| / |W|")


def _spectra(axes: Axes, shown: list[tuple[Moved, Look]]) -> None:
    least = 1e-7  # of what float32 weights can hold
    for one, look in shown:
        values = one.spectrum()
        values = values[values > least]
        places = numpy.arange(1, len(values) + 1)
        stride = max(1, len(values) // 5)
        axes.plot(
            places, values, color=look.colour, linestyle=look.line, linewidth=look.width, marker=look.marker,
            markersize=look.size, markevery=(int(look.shift * stride), stride), label=look.label,
            markeredgecolor="white", markeredgewidth=0.4,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("number of the singular value of dW")
    axes.set_ylabel("singular value of dW over |W|")
