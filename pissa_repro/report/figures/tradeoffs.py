"""What a sweep's methods reach against what they cost, and what they forget against how far they move the weights."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.figures import style
from pissa_repro.report.figures.looks import Look, looks
from pissa_repro.report.tables.baselines import rows_of
from pissa_repro.report.tables.columns import no_mean
from pissa_repro.report.tables.sweep import build, fetched
from pissa_repro.report.tables.table import Row
from pissa_repro.results.correlation import kendall
from pissa_repro.results.points import spread_words
from pissa_repro.results.rows import lines, read_scores
from pissa_repro.runtime import paths

COSTS = {  # a column of the sweep's table: what its axis is called, and its scale
    "trainable_parameters": ("trained parameters", "log"),
    "train_seconds_mean": ("seconds of training", "linear"),
    "peak_memory_gib": ("peak memory (GiB)", "linear"),
}
PANEL = (3.1, 2.9)  # inches
MANY = 1000.0  # ends of a log axis so far apart have ticks at decades alone


class Band(NamedTuple):
    """A row of panels: whose rows, and the value on the y axis. column: "score" or "final_loss"."""

    rows: list[Row]
    column: str
    name: str
    higher: bool
    scale: str
    title: str = ""


def pareto(sweep: Sweep, results: Path) -> Figure:
    """Score and final loss against trained parameters, time and memory.

    For each model and training data a row of panels for the scores of each task, and one for the loss. The line joins
    the rows that no other one beats in both.
    """
    found, _ = lines(sweep, read_scores(paths.scores(results)), results)
    rows, _ = build(sweep, found, fetched(sweep, results), same_rate=False)
    bands, known = list(_bands(rows)), looks(sweep)
    figure = Figure(figsize=(3 * PANEL[0] + 2.6, PANEL[1] * len(bands) + 1.2))
    grid = figure.subplots(len(bands), len(COSTS), squeeze=False)
    for band, panels in zip(bands, grid, strict=True):
        for axes, (cost, (label, scale)) in zip(panels, COSTS.items(), strict=True):
            axes.set(xscale=scale, yscale=band.scale, xlabel=label)
            _points(axes, band, cost, known)
            if band.scale == "log":
                _plain_ticks(axes.yaxis)
        panels[0].set_ylabel(band.name)
        panels[0].set_title(band.title, loc="left")
    figure.suptitle("What is reached, and what it costs")
    _legend(figure, [known[pair] for pair in dict.fromkeys((row["config_method"], row["quant"]) for row in rows)])
    times = "times and memory as recorded: other work on the machine is in them"
    seeds = rows[0]["seeds"]
    spread = (
        f"means over {seeds} seeds, bars: their standard deviation; the largest peak"
        if seeds > 1
        else spread_words(seeds)
    )
    style.caption(figure, ["line: what no other row beats in both", spread, times, no_mean(rows)])
    return figure


def _bands(rows: list[Row]) -> Iterator[Band]:
    for place in dict.fromkeys(row["place"][1:] for row in rows):
        here = [row for row in rows if row["place"][1:] == place]
        tasks = list(dict.fromkeys(row["task"] for row in here))
        for task in tasks:
            scored = [row for row in here if row["task"] == task]
            shown = scored[0]["measure"]
            title = _title(scored[0])
            yield Band(scored, "score", f"{shown.name} ({shown.symbol})", shown.higher_is_better, "linear", title)
        yield Band([row for row in here if row["task"] == tasks[0]], "final_loss", "final training loss", False, "log")


def _title(row: Row) -> str:
    return f"{row['model']}, trained on {row['data']}, task {row['task']}"


def front(points: Sequence[tuple[float, float]], higher: bool) -> list[tuple[float, float]]:
    """Of points (cost, value) those that no other has both at less cost and better, by rising cost."""
    kept: list[tuple[float, float]] = []
    for cost, value in sorted(points, key=lambda point: (point[0], -point[1] if higher else point[1])):
        if not kept or (value > kept[-1][1] if higher else value < kept[-1][1]):
            kept.append((cost, value))
    return kept


def _points(axes: Axes, band: Band, cost: str, known: Mapping[tuple[str, str], Look]) -> None:
    mean, spread = f"{band.column}_mean", f"{band.column}_std"
    shown = [row for row in band.rows if row[cost] is not None and row[mean] is not None]
    best = front([(row[cost], row[mean]) for row in shown], band.higher)
    xs, ys = [x for x, _ in best], [y for _, y in best]
    axes.step(xs, ys, where="post", color=style.GREY, linewidth=0.9, zorder=1)
    for row in shown:
        look = known[row["config_method"], row["quant"]]
        error = row[spread]
        if error is None and band.column == "score":
            error = row["score_stderr_items"]
        if error is not None:
            axes.errorbar(row[cost], row[mean], error, fmt="none", ecolor=look.colour, elinewidth=0.8)
        _mark(axes, row[cost], row[mean], look)


def _plain_ticks(axis: Axis) -> None:
    """Ticks of a log axis as plain numbers: 1, 2 and 5 of every decade, the decades alone where there are many."""
    low, high = sorted(axis.get_view_interval())
    many = high / low > MANY
    axis.set_major_locator(LogLocator(subs=(1,) if many else (1, 2, 5)))
    axis.set_major_formatter(FormatStrFormatter("%g"))
    axis.set_minor_locator(NullLocator())


def _mark(axes: Axes, x: float, y: float, look: Look) -> None:
    """A method's mark; on a quantized base it is hollow."""
    face = look.colour if look.line == "-" else "white"
    axes.plot(x, y, marker=look.marker, color=look.colour, markerfacecolor=face, markersize=look.size + 2, linestyle="")


def _legend(figure: Figure, shown: Sequence[Look]) -> None:
    handles = []
    for look in shown:
        face = look.colour if look.line == "-" else "white"
        (handle,) = figure.axes[0].plot(
            [], [], marker=look.marker, color=look.colour, markerfacecolor=face, markersize=look.size + 2, linestyle="",
            label=look.label,
        )  # fmt: skip
        handles.append(handle)
    figure.legend(
        handles=handles,
        loc="outside right center",
        ncols=1 + len(handles) // int(4.2 * figure.get_figheight()),
        fontsize=7.5,
    )


def forgetting(sweep: Sweep, results: Path) -> Figure:
    """What is forgotten over the size of the update, a panel for each model and training data."""
    _, rows = rows_of(sweep, results)
    known = looks(sweep)
    drawn = {row["place"]: row for row in rows}
    places = list(dict.fromkeys(place[1:] for place in drawn))
    figure = Figure(figsize=(5.6 * len(places) + 4.2, 5.4))
    spec = figure.add_gridspec(1, len(places))
    notes: list[str] = []
    seen: dict[tuple[str, str], Look] = {}
    for column, place in enumerate(places):
        axes = figure.add_subplot(spec[0, column])
        task = next(row["task"] for row in rows if row["place"][1:] == place)  # all tasks have the same text beside
        here = [row for row in rows if row["place"] == (task, *place) and row.get("forgotten") is not None]
        here = [row for row in here if row["update"]]
        for row in here:
            look = seen.setdefault((row["config_method"], row["quant"]), known[row["config_method"], row["quant"]])
            ends = [[row["forgotten"] - row["forgotten_low"]], [row["forgotten_high"] - row["forgotten"]]]
            axes.errorbar(row["update"], row["forgotten"], yerr=ends, fmt="none", ecolor=look.colour, elinewidth=0.9)
            _mark(axes, row["update"], row["forgotten"], look)
        axes.axhline(0, color=style.GREY, linewidth=0.9)
        axes.set_xscale("log")
        _plain_ticks(axes.xaxis)
        axes.set_xlabel("size of the update, |dW| / |W|, mean over modules")
        axes.set_ylabel("forgotten: nats per token more than before" if column == 0 else "")
        if here:
            axes.set_title(f"{here[0]['model']}, trained on {here[0]['data']};\n{here[0]['text']}", loc="left")
        else:
            style.empty(axes, "no numbers")
        found = kendall([row["update"] for row in here], [row["forgotten"] for row in here])
        if found:
            notes.append(f"Kendall's tau {found.tau:.2f} [{found.low:.2f}, {found.high:.2f}] over {found.n} rows")
    figure.suptitle("What is forgotten, over how far the weights have moved")
    _legend(figure, list(seen.values()))
    quantized = "hollow: quantized base, where it holds what the quantization costs, too"
    style.caption(figure, ["intervals: 95 %, paired over texts and seeds", quantized, *notes, no_mean(rows)])
    return figure
