"""What the figures of the studies share: panels, title, legend and caption, and how W and its residual look."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pissa_repro.report.figures import style
from pissa_repro.results.study import Study

BASE, REST = style.GREY, style.COLOURS[2]  # W and PiSSA's residual
WEIGHT, RESIDUAL = "$W$", r"$W_{\mathrm{res}}$"


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
