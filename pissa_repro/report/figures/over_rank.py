"""Error reduction, final loss and scores over the rank (paper, Figures 7 and 15), the published points below."""

from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pissa_repro import methods
from pissa_repro.paper import published
from pissa_repro.paper.printed import LOSS, MODELS
from pissa_repro.plan.cells import Cell, by_seed
from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.figures import study_data, style
from pissa_repro.report.figures.looks import Look, look, looks
from pissa_repro.report.figures.reductions import REDUCTION, set_ticks
from pissa_repro.report.figures.scores import axis_label
from pissa_repro.results.measure import measure_of
from pissa_repro.results.points import Point, diverged, having, losses, missing, scores, spread_words, there
from pissa_repro.results.study import Study

NOT_PRINTED = (
    "hollow: measured in pictures of the paper's versions 1 to 3, PiSSA's losses of v4 Table 6; version 4 prints no "
    "number of its curves"
)
WITHOUT_RANK = "dashes across: full fine-tuning, which has no rank"


GSM8K, MATH = "GSM8K: accuracy (%)", "MATH: accuracy (%)"  # of the published panels


class Line(NamedTuple):
    """What is drawn over the ranks: ranks and values, and their spread (points.Point.spread) where it is known."""

    look: Look
    ranks: list[int]
    values: list[float]
    spread: list[float] | None = None


def over_rank(sweep: Sweep, results: Path, heading: str, reductions: bool) -> Figure:
    """A row of panels for each model, data and rate, and for each published model: loss, scores; before them reduction.

    reductions: whether the first panel is the error reduction of the first projection type. Raises UserError without
    any record.
    """
    found, without = there(sweep, ["train.json"], results)
    tasks = sweep.config["sweep"]["tasks"]
    places = _places(sweep, found)
    ours = [_ours(sweep, cells, results, without) for _, cells in places]
    rows = [{panel: _lines(points, looks(sweep)) for panel, points in row.items()} for row in ours]
    titles = ["\n".join(words) for words, _ in places]
    if reductions:
        models = [cells[0].model for _, cells in places]
        rows = [{REDUCTION: _reductions(sweep, m, results)} | row for m, row in zip(models, rows, strict=True)]
    theirs = _published(reductions)
    labels = {LOSS: LOSS, REDUCTION: REDUCTION} | {task: _label(sweep, task) for task in tasks}
    columns = max(len(row) for row in (*rows, *theirs.values()))
    figure = Figure(figsize=(3.3 * columns + 1.8, 2.7 * (len(rows) + len(theirs)) + 1.2))
    grid = figure.subplots(len(rows) + len(theirs), columns, squeeze=False)
    for axes, row, title in zip(grid, (*rows, *theirs.values()), (*titles, *theirs), strict=True):
        _row(axes, row, title, labels, hollow=title in theirs)
    style.legend(figure)
    figure.suptitle(f"{heading}: {', '.join(dict.fromkeys(words[0] for words, _ in places))}")
    seeds = max(map(len, by_seed(found)))
    lost = diverged(sweep, (point for row in ours for points in row.values() for point in points))
    notes = [spread_words(seeds), WITHOUT_RANK, NOT_PRINTED, lost, missing(sweep, without), *style.exceptions(sweep)]
    style.caption(figure, notes)
    return figure


def _places(sweep: Sweep, cells: list[Cell]) -> list[tuple[tuple[str, ...], list[Cell]]]:
    """The cells by what a row of panels is of: the words of the model, and of data and rate where there are several."""
    parts = style.parts(sweep, ["models"], ["datasets", "learning_rates"])
    split = [(words, [cell for cell in cells if cell.name in part.cells]) for words, part in parts]
    return [(words, some) for words, some in split if some]


def _label(sweep: Sweep, task: str) -> str:
    return f"{style.words(sweep.config, 'tasks', task)}: {axis_label(measure_of(sweep.config['tasks'][task]['task']))}"


def _ours(sweep: Sweep, cells: list[Cell], results: Path, without: list[Cell]) -> dict[str, list[Point]]:
    """The points of a model by panel: the loss, and each task. Cells that are not scored go to `without`."""
    row = {LOSS: losses(sweep, cells, results)}
    for task in sweep.config["sweep"]["tasks"]:
        scored = having(cells, task, results)
        without += [cell for cell in cells if cell not in (*scored, *without)]
        row[task] = scores(sweep, scored, task, results)
    return row


def _lines(points: list[Point], known: dict[tuple[str, str], Look]) -> list[Line]:
    """The points as a line for each method and quantization, over their ranks."""
    groups: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        groups.setdefault((point.cells[0].method, point.cells[0].quant), []).append(point)
    made = []
    for pair, some in groups.items():
        some = sorted(some, key=lambda point: point.cells[0].rank)
        known_spread = [point.spread for point in some if point.spread is not None]
        spread = known_spread if len(known_spread) == len(some) else None
        ranks, values = [point.cells[0].rank for point in some], [float(point.values.mean()) for point in some]
        made.append(Line(known[pair], ranks, values, spread))
    return made


def _reductions(sweep: Sweep, model: str, results: Path) -> list[Line]:
    """The error reduction of the first projection type with one alternation, as the paper's Figure 7."""
    if model not in sweep.config["studies"]["models"]:
        return []
    study = Study(sweep, model, results)
    table = study_data.errors(study, "ranks")
    kind, least = study_data.kinds(study, table)[0], table["alternations"].min()
    means = study_data.averages(table[(table["type"] == kind) & (table["alternations"] == least)])
    found = [
        Line(study_data.look(str(method)), list(here["rank"]), list(here["reduction"]))
        for method, here in means.sort_values("rank").groupby("method", sort=False)
    ]
    plain = study_data.look(study_data.PLAIN)
    return [Line(plain, found[0].ranks, [0.0] * len(found[0].ranks)), *found]


def _published(quantized: bool) -> dict[str, dict[str, list[Line]]]:
    """The published rows by their titles. quantized: LLaMA-2-7B alone, with the sweep of 4-bit methods (Figure 7)."""
    table = published.printed("rank_sweep_gsm8k_digitised")
    made = {}
    for row in table["rows"]:
        words = {word: row[word] for word in ("full_ft", "lora", "pissa")}
        lines = [_line(word, [0] if word == "full_ft" else table["ranks"], v) for word, v in words.items()]
        made[f"published, {MODELS[row['model']]}, {table['confidence']}"] = {LOSS: [], GSM8K: lines}
    first = next(iter(made))
    exact = next(r for r in published.printed("fast_svd_v4")["rows"]["train_loss"] if r["niter"] == "full_svd")
    made[first][LOSS] = [_line("pissa", table["ranks"], [exact[f"r{rank}"] for rank in table["ranks"]])]
    if not quantized:
        return made
    return {first: {name: made[first].get(name, []) + lines for name, lines in _four_bit().items()}}


def _four_bit() -> dict[str, list[Line]]:
    """The 4-bit sweep of LLaMA-2-7B, one alternation."""
    table = published.printed("rank_sweep_quantised_llama2_7b_digitised")
    names = {
        "q_proj_error_reduction_pct": REDUCTION, "train_loss": LOSS, "gsm8k": GSM8K,
        "math": MATH,
    }  # fmt: skip
    return {
        title: [_line(row["method"], table["ranks"], row["values"]) for row in table["rows"][name]]
        for name, title in names.items()
    }


def _line(word: str, ranks: list[int], values: list[float | None] | float) -> Line:
    """A published line; a value that is not known is left out."""
    method, quantized = published.METHODS[word]
    quant = "nf4" if quantized else "none"
    listed = [values] if isinstance(values, float) else values
    known = [(rank, value) for rank, value in zip(ranks, listed, strict=True) if value is not None]
    return Line(look(methods.display(method, quant), method, quant), *(list(part) for part in zip(*known, strict=True)))


def _row(axes: Any, row: dict[str, list[Line]], title: str, labels: dict[str, str], hollow: bool) -> None:
    """One row of panels; those that it has no use for are left empty."""
    for panel, (name, lines) in zip(axes, row.items(), strict=False):
        _draw(panel, lines, hollow)
        panel.set(ylabel=labels.get(name, name))
    for panel in axes[len(row) :]:
        panel.set_axis_off()
    axes[0].set_title(title, loc="left", fontweight="bold")


def _draw(axes: Axes, lines: list[Line], hollow: bool) -> None:
    ranks = sorted({rank for line in lines for rank in line.ranks if rank})
    for look_, xs, values, spread in lines:
        style_of = {"color": look_.colour, "linestyle": look_.line, "label": look_.label}
        if xs == [0]:  # no factors, no rank
            axes.axhline(values[0], linewidth=look_.width, **{**style_of, "linestyle": (0, (6, 3))})
            continue
        face = "white" if hollow else look_.colour
        axes.errorbar(
            xs, values, spread, marker=look_.marker, markersize=look_.size, markerfacecolor=face, capsize=2,
            markeredgecolor=look_.colour if hollow else "white", markeredgewidth=0.8 if hollow else 0.4,
            linewidth=look_.width, **style_of,
        )  # fmt: skip
    if not lines:
        style.empty(axes, "no numbers")
    elif ranks:
        set_ticks(axes, "rank", ranks)
