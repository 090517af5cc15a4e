"""Score and final loss by method and rank, as two maps."""

import math
from pathlib import Path

import numpy
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.figures import style
from pissa_repro.report.tables.columns import no_mean
from pissa_repro.report.tables.sweep import build, fetched
from pissa_repro.report.tables.table import Row
from pissa_repro.results.rows import lines, read_scores
from pissa_repro.runtime import paths

COLOURS = "cividis"  # the same to readers who see no red or green
INCH = (0.72, 0.27)  # of a square


def by_rank(sweep: Sweep, results: Path) -> Figure:
    """Two maps for each task, model and training data: a row a method, a column a rank. Without a rank, one column."""
    found, _ = lines(sweep, read_scores(paths.scores(results)), results)
    rows, _ = build(sweep, found, fetched(sweep, results), same_rate=False)
    places = list(dict.fromkeys(row["place"] for row in rows))
    ranks = sorted({row["rank"] for row in rows if row["rank"]}) + ([0] if any(not row["rank"] for row in rows) else [])
    names = [list(dict.fromkeys(row["method"] for row in rows if row["place"] == place)) for place in places]
    heights = [INCH[1] * len(some) + 1.0 for some in names]
    figure = Figure(figsize=(2 * (INCH[0] * len(ranks) + 1.2) + 1.8, sum(heights) + 1.3))
    spec = figure.add_gridspec(len(places), 2, height_ratios=heights)
    for number, (place, some) in enumerate(zip(places, names, strict=True)):
        here = [row for row in rows if row["place"] == place]
        shown, squares = here[0]["measure"], _squares(here, some, ranks)
        digits = 1 if shown.symbol == "%" else shown.digits
        maps = (
            ("score_mean", f"{shown.name} ({shown.symbol})", digits, shown.higher_is_better),
            ("final_loss_mean", "final training loss", 3, False),
        )
        for column, (key, name, digits, higher) in enumerate(maps):
            axes = figure.add_subplot(spec[number, column])
            grid = numpy.full((len(some), len(ranks)), numpy.nan)
            for square, row in squares.items():
                grid[square] = numpy.nan if row["diverged"] else row[key]
            _map(figure, axes, grid, (digits, higher), name)
            for (i, j), row in squares.items():
                if row["diverged"]:
                    axes.text(j, i, "diverged", ha="center", va="center", fontsize=6, color=style.GREY)
            axes.set_yticks(range(len(some)), some if column == 0 else [""] * len(some))
            axes.set_xticks(range(len(ranks)), [str(rank) if rank else "none" for rank in ranks])
            axes.set_xlabel("rank")
        figure.axes[4 * number].set_title(f"{here[0]['model']}, task {here[0]['task']}", loc="left")
    figure.suptitle(f"Score and final loss by method and rank: trained on {rows[0]['data']}")
    seeds = rows[0]["seeds"]
    notes = [f"mean of {seeds} seeds" if seeds > 1 else "one seed", *_errors(rows), "lighter is better"]
    notes += ["blank: not swept"]
    several = any(count > 1 for count in _rates(rows))
    notes += ["of several learning rates the one of the lowest final loss"] if several else []
    style.caption(figure, [*notes, no_mean(rows)])
    return figure


def _errors(rows: list[Row]) -> list[str]:
    """How unsure the scores of each task are for having so few items."""
    errors: dict[str, list[Row]] = {}
    for row in rows:
        if row["score_stderr_items"] is not None:
            errors.setdefault(row["task"], []).append(row)
    largest = {task: max(some, key=lambda row: row["score_stderr_items"]) for task, some in errors.items()}
    return [
        f"{task}: standard error over items up to {row['score_stderr_items']:.{row['measure'].digits}f} "
        f"{row['measure'].points}"
        for task, row in largest.items()
    ]


def _rates(rows: list[Row]) -> list[int]:
    """How many learning rates each square has."""
    rates: dict[object, set[float]] = {}
    for row in rows:
        rates.setdefault((row["place"], row["method"], row["rank"]), set()).add(row["learning_rate"])
    return [len(some) for some in rates.values()]


def _squares(rows: list[Row], names: list[str], ranks: list[int]) -> dict[tuple[int, int], Row]:
    """The row of each square (method, rank); of several rates that of the lowest final loss, if any did not diverge."""
    order = sorted(rows, key=lambda row: -math.inf if row["diverged"] else -row["final_loss_mean"])
    return {(names.index(row["method"]), ranks.index(row["rank"] or 0)): row for row in order}


def _map(figure: Figure, axes: Axes, grid: numpy.ndarray, shown: tuple[int, bool], name: str) -> None:
    digits, higher = shown
    known = grid[numpy.isfinite(grid)]
    low, high = (known.min(), known.max()) if known.size else (0.0, 1.0)
    picture = axes.imshow(grid, aspect="auto", cmap=COLOURS if higher else f"{COLOURS}_r", vmin=low, vmax=high)
    for (i, j), value in numpy.ndenumerate(grid):
        if numpy.isfinite(value):
            light = (value - low) / (high - low or 1.0) > 0.55
            dark_text = light if higher else (high - value) / (high - low or 1.0) > 0.55
            axes.text(
                j,
                i,
                f"{value:.{digits}f}",
                ha="center",
                va="center",
                fontsize=7,
                color="black" if dark_text else "white",
            )
    axes.grid(False)
    axes.tick_params(length=0)
    figure.colorbar(picture, ax=axes, label=name, shrink=0.9)
