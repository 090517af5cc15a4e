"""Two columns: every method at the one rate of all, as in the paper, and each at its best; and what that changes."""

from pathlib import Path
from typing import Any

from pissa_repro.paper.published import RECIPE
from pissa_repro.plan.sweep import Sweep
from pissa_repro.plan.validation import VALIDATION
from pissa_repro.report.tables.captions import REFERENCE
from pissa_repro.report.tables.columns import diverged, names
from pissa_repro.report.tables.grid import Column, Row, drawn, number
from pissa_repro.report.tables.table import Table
from pissa_repro.results import stats
from pissa_repro.results.measure import verdict
from pissa_repro.results.rates import Beside, Swept, swept
from pissa_repro.results.rows import Line

SIDE = "rate score score_std final_loss diverged reference_rate difference low high verdict".split()
COLUMNS = tuple(
    "model benchmark data task method config_method quant rank weight_decay seeds n unit".split()
    + [f"{side}_{name}" for side in ("common", "best") for name in SIDE]
    + "best_at_edge change change_low change_high change_verdict diverged".split()
)
TITLE = (
    "## One rate for all, and each method at its best: {model}, trained on {data}, scored on {benchmark} (task {task})"
)
CHANGED = {"better": "grows", "worse": "falls", "no difference shown": "no change shown"}
CLAIM = (
    "- {method} against {reference} ({place}): {common} {points} at rate {common_rate:g}; {best} each at its best "
    "({best_rate:g} against {best_reference_rate:g}); the gap changes by {change} ({word})."
)
SAME = (
    "- {method} against {reference} ({place}): {common} {points} in both columns, because {common_rate:g} is the best "
    "rate of both."
)
CAPTION = {
    "common": "At {rate:g}: one rate for all methods, as the paper has ({paper:g} there).",
    "no common": "There is no one rate for all: the paper's, {paper:g}, is not swept, and sweep.common_rate says none.",
    "best": "Best: of the rates {rates}, the one with the best mean over seeds on task {task}{validation}, whose items "
    "are not scored here; * marks one at the edge of these rates: one beyond may be better.",
    "none": "No rate is chosen: task {task}{validation} is not swept, and chosen on the scored items a rate would "
    "flatter every method.",
    "gap": "Gap: {points} to the reference on the same base and of the same rank, at the same rate or each at its own, "
    "with a 95 % interval from a paired bootstrap over {resampled}.",
    "change": "Its change is paired in the same way, and takes the chosen rates as given: that other validation items "
    "might choose others is not in the interval.",
    "as given": "It takes the chosen rates as given: that other validation items might choose others is not in the "
    "interval.",
    "seeds": "± is the sample standard deviation over {seeds} seeds.",
    "diverged": "Diverged: the loss or its gradient was no finite number, and the training ended there. A rate at "
    "which a seed diverged has no mean and is not chosen: {which}.",
}
KEYS = ("difference", "low", "high", "verdict")
CHANGE = ("change", "change_low", "change_high", "change_verdict")


def common_rate(sweep: Sweep) -> float | None:
    """The one rate of all methods: what the config declares, else the paper's where it is swept; None without."""
    asked, paper = sweep.config["sweep"], RECIPE["learning_rate"]
    return asked.get("common_rate", paper if paper in asked["learning_rates"] else None)


def two_rates(sweep: Sweep, results: Path) -> Table:
    """A row for each task and each setting but its rate. Raises UserError as `rows.lines`."""
    settings = swept(sweep, results, common_rate(sweep))
    rows = [row(sweep, one) for one in settings]
    return Table(COLUMNS, rows, text(sweep, settings, rows))


def text(sweep: Sweep, settings: list[Swept], rows: list[Row]) -> str:
    """The rows as Markdown: a part for each task, model and training data."""
    parts: dict[tuple[str, ...], list[tuple[Swept, Row]]] = {}
    for one, shown in zip(settings, rows, strict=True):
        parts.setdefault((shown["model"], shown["data"], shown["task"]), []).append((one, shown))
    return "\n\n".join(_part(sweep, pairs) for pairs in parts.values()) + "\n"


def row(sweep: Sweep, one: Swept) -> Row:
    """All columns of one setting; None where there is no number."""
    line, change = one.first, one.change
    cell = line.first
    lost = {rate.first.learning_rate: diverged(rate.diverged, len(rate.cells)) for rate in one.rates}
    return {
        **names(sweep, cell, line.task),
        "rank": cell.rank or None,
        "weight_decay": dict(cell.train)["weight_decay"],
        "seeds": len(line.cells),
        "n": max(rate.scores.shape[1] for rate in one.rates),
        "unit": line.measure.unit,
        **{f"common_{key}": value for key, value in _side(one.common).items()},
        **{f"best_{key}": value for key, value in _side(one.best).items()},
        "best_at_edge": one.at_edge if one.best.line else None,
        **_interval(line, change, CHANGE, CHANGED),
        "diverged": "; ".join(f"{rate:g}: {words}" for rate, words in lost.items() if words) or None,
    }


def _side(beside: Beside) -> Row:
    """One of the two columns."""
    line, other = beside.line, beside.reference
    if line is None:
        return {}
    mean, spread = (None, None) if line.diverged else stats.mean_std((line.measure.scale * line.scores).mean(axis=1))
    loss = None if line.diverged else stats.mean_std(line.numbers("final_loss"))[0]
    found = beside.difference
    return {
        "rate": line.first.learning_rate, "score": mean, "score_std": spread, "final_loss": loss,
        "diverged": line.diverged or None,
        "reference_rate": other.first.learning_rate if found and other else None,
        "verdict": REFERENCE if line is other else None,
        **_interval(line, found, KEYS),
    }  # fmt: skip


def _interval(
    line: Line, found: stats.Difference | None, keys: tuple[str, ...], words: dict[str, str] | None = None
) -> Row:
    """A difference in the unit of the measure, and its verdict: in these words, or as better and worse."""
    if found is None:
        return {}
    scaled = [line.measure.scale * value for value in (found.mean, found.low, found.high)]
    word = words[found.verdict] if words else verdict(found.verdict, line.measure.higher_is_better)
    return dict(zip(keys, [*scaled, word], strict=True))


def _part(sweep: Sweep, pairs: list[tuple[Swept, Row]]) -> str:
    rows = [shown for _, shown in pairs]
    claims = "\n".join(filter(None, (_claim(sweep, *pair) for pair in pairs)))
    texts = (TITLE.format(**rows[0]), drawn(rows, _columns(sweep, pairs[0][0])), claims, _caption(sweep, pairs))
    return "\n\n".join(filter(None, texts))


def _columns(sweep: Sweep, one: Swept) -> dict[str, Column]:
    shown = one.first.measure
    score, rate = f"{{:.{shown.digits}f}}", common_rate(sweep)
    at = f"at {rate:g}" if rate is not None else "at one rate"

    def scored(side: str) -> Column:
        return lambda row: (
            diverged(row.get(f"{side}_diverged") or 0, row["seeds"])
            or number(row.get(f"{side}_score"), score, row.get(f"{side}_score_std"))
        )

    return {
        "method": lambda row: row["method"],
        "base": lambda row: row["quant"],
        "rank": lambda row: number(row["rank"], "{}"),
        f"{at}: {shown.name}, {shown.symbol}": scored("common"),
        f"{at}: gap, {shown.points}": lambda row: _gap(row, "common", score),
        "best rate": lambda row: number(row.get("best_rate"), "{:g}") + "*" * bool(row["best_at_edge"]),
        f"at its best: {shown.name}, {shown.symbol}": scored("best"),
        f"at its best: gap, {shown.points}": lambda row: _gap(row, "best", score),
        "change of the gap": lambda row: f"{_change(row, score)} {row.get('change_verdict') or ''}".strip(),
    }


def _gap(row: Row, side: str, score: str, said: bool = True) -> str:
    """The gap of a column with its interval and, where said, its verdict; or that the row is the reference."""
    mean, low, high, word = (row.get(f"{side}_{key}") for key in KEYS)
    if mean is None:
        return word or ""
    return f"{_signed(mean, low, high, score)} {word}" if said else _signed(mean, low, high, score)


def _change(row: Row, score: str) -> str:
    mean, low, high, _ = (row.get(key) for key in CHANGE)
    return "" if mean is None else _signed(mean, low, high, score)


def _signed(mean: Any, low: Any, high: Any, score: str) -> str:
    pattern = score.replace(":", ":+")
    return f"{pattern.format(mean)} [{pattern.format(low)}, {pattern.format(high)}]"


def _claim(sweep: Sweep, one: Swept, row: Row) -> str:
    """How the gap to the reference changes, in one line; nothing where there are not two gaps."""
    common = one.common
    if common.reference is None or row.get("common_difference") is None or row.get("best_difference") is None:
        return ""
    score = f"{{:.{one.first.measure.digits}f}}"
    where = ", ".join(
        [f"rank {row['rank'] or common.reference.first.rank}"] + [row["quant"]] * (row["quant"] != "none")
    )
    words = {
        "method": row["method"], "reference": sweep.display(common.reference.first), "place": where,
        "points": one.first.measure.points, "common_rate": row["common_rate"], "best_rate": row["best_rate"],
        "best_reference_rate": row["best_reference_rate"],
        "common": _gap(row, "common", score, said=False), "best": _gap(row, "best", score, said=False),
    }  # fmt: skip
    if row.get("change") is None:
        return SAME.format(**words)
    return CLAIM.format(**words, change=_change(row, score), word=row["change_verdict"])


def _caption(sweep: Sweep, pairs: list[tuple[Swept, Row]]) -> str:
    """How to read the rows of one task."""
    rows, first = [row for _, row in pairs], pairs[0][0].first
    common, paper = common_rate(sweep), RECIPE["learning_rate"]
    rates = sorted({line.first.learning_rate for one, _ in pairs for line in one.rates})
    words = {"rate": common, "paper": paper, "task": first.task, "validation": VALIDATION, "seeds": rows[0]["seeds"]}
    words |= {"points": first.measure.points, "rates": ", ".join(f"{rate:g}" for rate in rates)}
    words["resampled"] = stats.SEVERAL_SEEDS if rows[0]["seeds"] > 1 else "items"
    words["which"] = "; ".join(f"{row['method']} at {row['diverged']}" for row in rows if row["diverged"])
    kinds = ["no common" if common is None else "common"]
    kinds += ["best" if any(one.best.line for one, _ in pairs) else "none"]
    at_common, at_best = (any(row.get(f"{side}_difference") is not None for row in rows) for side in ("common", "best"))
    kinds += ["gap"] if at_common or at_best else []
    kinds += ["change" if at_common else "as given"] if at_best else []
    kinds += ["seeds"] if rows[0]["seeds"] > 1 else []
    kinds += ["diverged"] if words["which"] else []
    return " ".join(CAPTION[kind].format(**words) for kind in kinds)
