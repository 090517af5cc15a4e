"""The methods of a sweep side by side: a row a method, the rows of one base together."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.figures import style
from pissa_repro.report.figures.looks import Look, looks
from pissa_repro.report.tables.baselines import rows_of
from pissa_repro.report.tables.captions import NO_REFERENCE, REFERENCE
from pissa_repro.report.tables.columns import diverged, no_mean
from pissa_repro.report.tables.table import Row
from pissa_repro.results.points import spread_words

INCH = 0.21  # of a row
FLAG = "no difference shown"


def side_by_side(sweep: Sweep, results: Path) -> Figure:
    """Difference to the reference, score and time of a step, from the rows of the table `baselines`."""
    zero, rows = rows_of(sweep, results)
    known = looks(sweep)
    places = list(dict.fromkeys(row["place"] for row in rows))
    laid = [_laid([row for row in rows if row["place"] == place]) for place in places]
    heights = [INCH * (len(lines) + 2) + 0.7 for lines in laid]
    figure = Figure(figsize=(9.4, sum(heights) + 1.1))
    spec = figure.add_gridspec(len(places), 3, height_ratios=heights, width_ratios=(5, 3, 2.4))
    for number, (place, lines) in enumerate(zip(places, laid, strict=True)):
        axes = [figure.add_subplot(spec[number, column]) for column in range(3)]
        bases = {row["quant"]: row["score_mean"] for row in zero if row["place"] == place}
        _draw(axes, lines, known, bases)
        axes[0].set_title(_title(lines, len(places) > 1), loc="left")
    figure.suptitle(": ".join(filter(None, ("Methods side by side", _title(laid[0], len(places) == 1)))))
    style.caption(figure, _notes(rows, bool(zero)))
    return figure


def _laid(rows: list[Row]) -> list[Row | str]:
    """The rows of one place from top to bottom, the best first and what diverged last, below the name of their base."""
    laid: list[Row | str] = []
    way = -1 if rows[0]["measure"].higher_is_better else 1
    for quant in dict.fromkeys(row["quant"] for row in rows):
        here = [row for row in rows if row["quant"] == quant]
        here.sort(key=lambda row: math.inf if row["diverged"] else way * row["score_mean"])
        laid.append("plain base" if quant == "none" else f"base: {quant}")
        laid += here
    return laid


def _title(lines: Sequence[Row | str], wanted: bool) -> str:
    first = next(line for line in lines if not isinstance(line, str))
    return f"{first['model']}, trained on {first['data']}, task {first['task']}" if wanted else ""


def _draw(
    axes: list[Axes], lines: list[Row | str], known: dict[tuple[str, str], Look], bases: dict[str, float]
) -> None:
    """One place: a row a method, in three panels that share their rows."""
    shown = next(line["measure"] for line in lines if not isinstance(line, str))
    for y, row in enumerate(lines):
        if isinstance(row, str):
            for panel in axes:
                panel.axhline(y, color="#E4E4E4", linewidth=INCH * 50, zorder=0)
            continue
        look = known[row["config_method"], row["quant"]]
        _difference(axes[0], y, row, look)
        _point(axes[1], y, row, look)
        _times(axes[2], y, row, look)
        if row["quant"] in bases:
            axes[1].plot([bases[row["quant"]]] * 2, [y - 0.5, y + 0.5], color=style.GREY, linewidth=1.1, linestyle=":")
    axes[0].axvline(0, color=style.GREY, linewidth=0.9)
    axes[2].axvline(1, color=style.GREY, linewidth=0.9)
    labels = _names(lines)
    for panel in axes:
        panel.set_ylim(len(lines) - 0.4, -0.6)
        panel.set_yticks(range(len(lines)), labels if panel is axes[0] else [""] * len(lines))
        panel.tick_params(axis="y", length=0)
        panel.grid(False, axis="y")
    for row, label in zip(lines, axes[0].get_yticklabels(), strict=True):
        label.set_fontweight("bold" if isinstance(row, str) else "normal")
    better = "" if shown.higher_is_better else "; lower is better"
    names = f"difference to LoRA or QLoRA ({shown.points}{better})", f"{shown.name} ({shown.symbol})"
    for panel, name in zip(axes, (*names, "time of a step\n(times LoRA's or QLoRA's)"), strict=True):
        panel.set_xlabel(name)


def _names(lines: Sequence[Row | str]) -> list[str]:
    """What stands beside the rows: the method, with rank and rate where rows differ in them alone."""
    rows = [row for row in lines if not isinstance(row, str)]
    ranks = {row["rank"] for row in rows if row["rank"]}
    rates: dict[Any, set[float]] = {}
    for row in rows:
        rates.setdefault((row["method"], row["rank"]), set()).add(row["learning_rate"])

    def name(row: Row) -> str:
        parts = [f"r {row['rank']}"] if row["rank"] and len(ranks) > 1 else []
        parts += [f"{row['learning_rate']:g}"] if len(rates[row["method"], row["rank"]]) > 1 else []
        return ", ".join([row["method"], *parts])

    return [line if isinstance(line, str) else name(line) for line in lines]


def _difference(axes: Axes, y: int, row: Row, look: Look) -> None:
    if row.get("diff_verdict") == REFERENCE:
        axes.annotate("reference", (0, y), (5, 0), textcoords="offset points", va="center", fontsize=7.5)
        axes.plot(0, y, marker=look.marker, color=look.colour, markersize=look.size + 1.5)
    elif row.get("diff_verdict") == NO_REFERENCE:
        axes.annotate(NO_REFERENCE, (0, y), (5, 0), textcoords="offset points", va="center", fontsize=7.5)
    elif row.get("diff_to_lora") is not None:
        middle, low, high = (row[key] for key in ("diff_to_lora", "diff_low", "diff_high"))
        _bar(axes, y, (middle, low, high), look, hollow=row["diff_verdict"] == FLAG)


def _bar(axes: Axes, y: int, ends: tuple[float, float, float], look: Look, hollow: bool = False) -> None:
    middle, low, high = ends
    more: dict[str, Any] = {"markerfacecolor": "white"} if hollow else {}
    axes.errorbar(
        middle, y, xerr=[[middle - low], [high - middle]], fmt="none", ecolor=look.colour, elinewidth=1.2, capsize=2
    )
    axes.plot(middle, y, marker=look.marker, color=look.colour, markersize=look.size + 1.5, linestyle="", **more)


def _point(axes: Axes, y: int, row: Row, look: Look) -> None:
    """The score; in its place, how many trainings diverged."""
    if row["diverged"]:
        words, place = diverged(row["diverged"], row["seeds"]), axes.get_yaxis_transform()
        axes.text(0.5, y, words, transform=place, ha="center", va="center", fontsize=7.5, color=look.colour)
        return
    mean, spread = row["score_mean"], row["score_std"]
    if spread is None:
        spread = row["score_stderr_items"] or 0.0
    _bar(axes, y, (mean, mean - spread, mean + spread), look)


def _times(axes: Axes, y: int, row: Row, look: Look) -> None:
    if row.get("step_to_lora") is not None:
        _bar(axes, y, tuple(row[f"step_to_lora{end}"] for end in ("", "_low", "_high")), look)


def _notes(rows: list[Row], bases: bool) -> list[str]:
    """The caption. Colour and marker say the method, as in all figures; its name stands beside its row."""
    seeds = rows[0]["seeds"]
    spread = f"scores: mean and standard deviation of {seeds} seeds" if seeds > 1 else spread_words(seeds)
    notes = [
        "differences with 95 % intervals (paired over items and seeds), hollow where they hold 0",
        spread,
        "steps: median and range over seeds",
    ]
    notes += ["dotted: the base before any training"] if bases else []
    notes += [no_mean(rows)]
    rates = {row["learning_rate"] for row in rows}
    return notes + (["each method at its own learning rate"] if len(rates) > 1 else [f"learning rate {rates.pop():g}"])
