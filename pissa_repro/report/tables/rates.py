"""The learning rates of a sweep: the final loss at each, and the lowest."""

from pathlib import Path
from statistics import fmean

from pissa_repro.plan.cells import Cell
from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.tables.columns import diverged
from pissa_repro.report.tables.table import Row, Table, headed
from pissa_repro.results.costs import Costs

CAPTION = (
    "Final loss: the mean over the last tenth of the steps, and over seeds. In one epoch it is the loss of rows that "
    "were not trained on before, so that a rate may be chosen by it; over several epochs it is not. Chosen: the rate "
    "of the lowest loss. At the edge: it is the smallest or largest rate of its row, and one beyond may be better."
)
DIVERGED = (
    "Diverged: the loss or its gradient was no finite number, and the training ended there. A rate at which a seed "
    "diverged has no mean, and is not chosen."
)


def rates(sweep: Sweep, results: Path, heading: str) -> Table:
    """A row for each model, data, method, quantization and rank; a column for each rate. As `Costs` raises."""
    costs, rows, shown = Costs(sweep, results), [], []
    for cells in _groups(sweep):
        losses = {rate: [costs.training(cell)["final_loss"] for cell in some] for rate, some in cells.items()}
        lost = {rate: words for rate, some in losses.items() if (words := diverged(some.count(None), len(some)))}
        row = _row(sweep, cells, {rate: _mean(some) for rate, some in losses.items()})
        rows.append(
            row | ({"diverged": "; ".join(f"{rate:g}: {words}" for rate, words in lost.items())} if lost else {})
        )
        shown.append(row | {f"loss at {rate:g}": words for rate, words in lost.items()})
    text = headed(heading, dict.fromkeys(row["model"] for row in rows), shown).markdown
    captions = [CAPTION, DIVERGED] if any("diverged" in row for row in rows) else [CAPTION]
    return Table(tuple(dict.fromkeys(key for row in rows for key in row)), rows, f"{text}\n{' '.join(captions)}\n")


def _groups(sweep: Sweep) -> list[dict[float, list[Cell]]]:
    """The cells that differ in rate and seed alone, by their rate, from the smallest."""
    groups: dict[tuple[object, ...], dict[float, list[Cell]]] = {}
    for cell in sorted(sweep.cells.values(), key=lambda cell: cell.learning_rate):
        place = cell.model, cell.data, cell.method, cell.quant, cell.rank
        groups.setdefault(place, {}).setdefault(cell.learning_rate, []).append(cell)
    order = [(cell.model, cell.data, cell.method, cell.quant, cell.rank) for cell in sweep.cells.values()]
    return [groups[place] for place in dict.fromkeys(order)]


def _mean(losses: list[float | None]) -> float | None:
    """The mean over seeds; None where one diverged: a mean of the others would be of the lucky ones."""
    known = [loss for loss in losses if loss is not None]
    return fmean(known) if len(known) == len(losses) else None


def _row(sweep: Sweep, cells: dict[float, list[Cell]], losses: dict[float, float | None]) -> Row:
    first = next(iter(cells.values()))
    cell, config = first[0], sweep.config
    known = {rate: loss for rate, loss in losses.items() if loss is not None}
    chosen = min(known, key=lambda rate: (known[rate], rate), default=None)
    return {
        "model": config["models"][cell.model].get("display", cell.model),
        "data": config["datasets"][cell.data].get("display", cell.data),
        "method": sweep.display(cell),
        "config_method": cell.method,
        "quant": cell.quant,
        "rank": cell.rank or None,
        "seeds": len(first),
        **{f"loss at {rate:g}": loss for rate, loss in losses.items()},
        "chosen": chosen,
        "at the edge": len(losses) > 1 and chosen in (min(losses), max(losses)),
    }
