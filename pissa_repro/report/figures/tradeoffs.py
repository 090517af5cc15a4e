"""What a sweep's methods reach against what they cost, and what they forget against how far they move the weights."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
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
from pissa_repro.results.rows import lines, read_scores
from pissa_repro.runtime import paths

COSTS = {  # a column of the sweep's table: what its axis is called, and its scale
    "trainable_parameters": ("trained parameters", "log"),
    "train_seconds_mean": ("seconds of training", "linear"),
    "peak_memory_gib": ("peak memory (GiB)", "linear"),
}
PANEL = (3.1, 2.9)  # inches


def pareto(sweep: Sweep, results: Path) -> Figure:
    """Score and final loss against trained parameters, time and memory: a block of six panels for each task and model.

    The line joins the rows that no other one beats in both.
    """
    found, _ = lines(sweep, read_scores(paths.scores(results)), results)
    rows, _ = build(sweep, found, fetched(sweep, results), same_rate=False)
    places = list(dict.fromkeys(row["place"] for row in rows))
    figure = Figure(figsize=(3 * PANEL[0] + 2.6, 2 * PANEL[1] * len(places) + 1.2))
    spec, known = figure.add_gridspec(2 * len(places), 3), looks(sweep)
    for block, place in enumerate(places):
        here = [row for row in rows if row["place"] == place]
        shown = here[0]["measure"]
        values = {
            "score_mean": (f"{shown.name} ({shown.symbol})", shown.higher_is_better),
            "final_loss_mean": ("final training loss", False),
        }
        for i, (value, (name, higher)) in enumerate(values.items()):
            for j, (cost, (label, scale)) in enumerate(COSTS.items()):
                axes = figure.add_subplot(spec[2 * block + i, j])
                axes.set_xscale(scale)
                _points(
                    axes, [(row[cost], row[value], known[row["config_method"], row["quant"]]) for row in here], higher
                )
                axes.set_xlabel(label)
                axes.set_ylabel(name if j == 0 else "")
        figure.axes[6 * block].set_title(_title(here[0]), loc="left")
    figure.suptitle("What is reached, and what it costs")
    _legend(figure, [known[pair] for pair in dict.fromkeys((row["config_method"], row["quant"]) for row in rows)])
    times = "times and memory as recorded: other work on the machine is in them"
    seeds = rows[0]["seeds"]
    spread = f"means over {seeds} seeds, the largest peak" if seeds > 1 else "one seed"
    style.caption(figure, ["line: what no other row beats in both", spread, times, no_mean(rows)])
    return figure


def _title(row: Row) -> str:
    return f"{row['model']}, trained on {row['data']}, task {row['task']}"


def front(points: Sequence[tuple[float, float]], higher: bool) -> list[tuple[float, float]]:
    """Of points (cost, value) those that no other has both at less cost and better, by rising cost."""
    kept: list[tuple[float, float]] = []
    for cost, value in sorted(points, key=lambda point: (point[0], -point[1] if higher else point[1])):
        if not kept or (value > kept[-1][1] if higher else value < kept[-1][1]):
            kept.append((cost, value))
    return kept


def _points(axes: Axes, points: list[tuple[float | None, float | None, Look]], higher: bool) -> None:
    known = [(cost, value, look) for cost, value, look in points if cost is not None and value is not None]
    best = front([(cost, value) for cost, value, _ in known], higher)
    axes.step(
        [cost for cost, _ in best],
        [value for _, value in best],
        where="post",
        color=style.GREY,
        linewidth=0.9,
        zorder=1,
    )
    for cost, value, look in known:
        _mark(axes, cost, value, look)


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
        loc="outside right upper",
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
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("size of the update, |dW| / |W|, mean over modules")
        axes.set_ylabel("forgotten: nats per token more than before" if column == 0 else "")
        if here:
            axes.set_title(f"{here[0]['model']}, trained on {here[0]['data']}; {here[0]['text']}", loc="left")
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
