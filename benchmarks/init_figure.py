"""The figure of benchmarks/init.py: seconds against error, a column a shape.

Above the rank-r approximations, below the alternations with quantization.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pissa_repro.report.figures import looks, style

Line = dict[str, Any]
LEAST = 1e-7  # excesses below are rounding of float32; they are drawn here
LOOKS = {  # colour and marker by who made it
    "ours": (looks.COLOURS[1], "o"),
    "torch": (looks.COLOURS[2], "^"),
    "PEFT": (looks.COLOURS[3], "s"),
    "released loop": (looks.COLOURS[0], "D"),
}
PLACES = [(x, y) for y in (5, -12, 16, -23, 27, -34) for x in (0, 8, -8)]  # of a label, in points from its dot


def draw(shapes: Sequence[Sequence[Line]], folder: Path) -> None:
    """Write init.svg and init.png."""
    with style.context():
        figure = Figure(figsize=(1.5 + 4.2 * len(shapes), 6.4))
        FigureCanvasAgg(figure)  # which measures the labels
        axes = figure.subplots(2, len(shapes), squeeze=False, height_ratios=(3, 2))
        for (above, below), lines in zip(axes.T, shapes, strict=True):
            _approximations(above, lines)
            _alternations(below, lines)
            below.set_xlabel("seconds (median; bar: least to most)")
        axes[0, 0].set_ylabel("Frobenius excess over the best rank r")
        axes[1, 0].set_ylabel("nuclear error left,\n% of plain nf4's")
        figure.draw_without_rendering()  # the layout is settled before labels look for free places
        for one in axes.flat:
            _label(one)
        for kind in ("svg", "png"):
            style.save(figure, folder / f"init.{kind}")


def _approximations(axes: Axes, lines: Sequence[Line]) -> None:
    rows, columns = lines[0]["shape"]
    axes.set(yscale="log", title=f"{rows} x {columns}, rank {lines[0]['rank']}, {lines[0]['device']}")
    _points(axes, {line["name"]: (line, line["frobenius_excess"]) for line in lines}, LEAST)
    axes.axhline(LEAST, color=style.GREY, linewidth=0.8, linestyle="--")
    axes.annotate("rounding of float32, or less", (0.01, LEAST), (0, 3), ("axes fraction", "data"),
                  textcoords="offset points", color=style.GREY, fontsize=7)  # fmt: skip


def _alternations(axes: Axes, lines: Sequence[Line]) -> None:
    done = {line["name"]: line for line in lines if line["error_reduction"] is not None}
    _points(axes, {name: (line, 100 - line["error_reduction"]) for name, line in done.items()}, 0)


def _points(axes: Axes, values: dict[str, tuple[Line, float | None]], least: float) -> None:
    for name, (line, value) in values.items():
        if value is None:
            continue
        colour, marker = LOOKS[_maker(name)]
        middle, low, high = (line[f"seconds_{key}"] for key in ("median", "min", "max"))
        place = max(value, least)
        axes.errorbar(middle, place, xerr=[[middle - low], [high - middle]], color=colour, marker=marker)
        axes.annotate(name, (middle, place), (0, 0), textcoords="offset points", color=colour, fontsize=7.5)
    axes.set_xscale("log")
    axes.margins(0.25, 0.25)


def _maker(name: str) -> str:
    if name.startswith("peft-"):
        return "PEFT"
    if name == "qpissa-5-full-svd":
        return "released loop"
    return "torch" if name.startswith(("linalg.", "svd_")) else "ours"


def _label(axes: Axes) -> None:
    """Move every label to the first place beside its point where it meets no other label and no point."""
    renderer = axes.figure.canvas.get_renderer()
    texts = [text for text in axes.texts if text.xycoords == "data"]
    dots = [axes.transData.transform(text.xy) for text in texts]
    taken = [text.get_window_extent(renderer) for text in axes.texts if text.xycoords != "data"]
    for text in texts:
        for x, y in PLACES:
            text.set_position((x, y))
            text.set_horizontalalignment("left" if x > 0 else "right" if x < 0 else "center")
            box = text.get_window_extent(renderer)
            if not (box.count_overlaps(taken) or any(box.contains(*dot) for dot in dots)):
                break
        taken.append(box)
