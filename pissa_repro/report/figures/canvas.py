"""What the figures of the studies share: blocks, panels, title, legend and caption, and how W and its residual look."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from pissa_repro.paper import published
from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.figures import style
from pissa_repro.report.figures.looks import look
from pissa_repro.results.study import Study, studied

BASE = style.GREY  # of W
REST = look("", *published.METHODS["pissa"][:1], "none").colour  # of PiSSA's residual
Block = Figure | SubFigure
WEIGHT, RESIDUAL = "$W$", r"$W_{\mathrm{res}}$"


class Sheet:
    """A figure of several blocks, one below the other, each with title, legend and caption of its own.

    A lone block is the figure itself.
    """

    def __init__(self, count: int):
        self.figure = Figure()
        self.grid = self.figure.add_gridspec(count, 1)
        self.sizes: list[tuple[float, float]] = []

    def block(self, width: float, height: float) -> Block:
        """The next block, of these inches."""
        self.sizes.append((width, height))
        widths, heights = zip(*self.sizes, strict=True)
        self.figure.set_size_inches(max(widths), sum(heights))
        if self.grid.nrows == 1:
            return self.figure
        self.grid.set_height_ratios([*heights, *[height] * (self.grid.nrows - len(heights))])
        return self.figure.add_subfigure(self.grid[len(heights) - 1])

    def panels(self, count: int, width: float, height: float, share: bool = True) -> tuple[Block, list[Axes]]:
        """A block with that many panels of these inches, with one axis of values where they share it."""
        columns = count if count < 4 else max(3, math.ceil(math.sqrt(count)))
        rows = math.ceil(count / columns)
        figure = self.block(width * columns + 1.8, height * rows + 1.2)
        spec = figure.add_gridspec(rows, columns)
        axes: list[Axes] = []
        for i in range(count):
            axes.append(figure.add_subplot(spec[i // columns, i % columns], sharey=axes[0] if axes and share else None))
        return figure, axes


def stacked(sweep: Sweep, results: Path, draw: Callable[[Sheet, Study], None]) -> Figure:
    """A figure with a block for each studied model."""
    models = studied(sweep, results)
    sheet = Sheet(len(models))
    for study in models:
        draw(sheet, study)
    return sheet.figure


def finish(figure: Block, study: Study, title: str, notes: Sequence[str]) -> None:
    """`close` with the model's name in the title and in the caption."""
    close(figure, f"{title}: {study.display}", [study.display, *notes])


def close(figure: Block, title: str, notes: Sequence[str]) -> None:
    """A block's title, one legend for all its panels at the right, and its caption."""
    figure.suptitle(title)
    style.legend(figure)
    style.caption(figure, notes)
