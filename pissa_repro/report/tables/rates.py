"""The learning rates of a sweep: the final loss at each, and the lowest."""

from pathlib import Path
from statistics import fmean

from pissa_repro.plan.cells import Cell
from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.tables.table import Row, Table, headed
from pissa_repro.results.costs import Costs

CAPTION = (
    "Final loss: the mean over the last tenth of the steps, and over seeds. In one epoch it is the loss of rows that "
    "were not trained on before, so that a rate may be chosen by it; over several epochs it is not. Chosen: the rate "
    "of the lowest loss. At the edge: it is the smallest or largest rate of its row, and one beyond may be better."
)


def rates(sweep: Sweep, results: Path, heading: str) -> Table:
    """A row for each model, data, method, quantization and rank; a column for each rate. As `Costs` raises."""
    costs, groups = Costs(sweep, results), _groups(sweep)
    rows = [_row(sweep, cells, {rate: _loss(costs, some) for rate, some in cells.items()}) for cells in groups]
    names = dict.fromkeys(row["model"] for row in rows)
    table = headed(heading, names, rows)
    return Table(table.columns, table.rows, f"{table.markdown}\n{CAPTION}\n")


def _groups(sweep: Sweep) -> list[dict[float, list[Cell]]]:
    """The cells that differ in rate and seed alone, by their rate, from the smallest."""
    groups: dict[tuple[object, ...], dict[float, list[Cell]]] = {}
    for cell in sorted(sweep.cells.values(), key=lambda cell: cell.learning_rate):
        place = cell.model, cell.data, cell.method, cell.quant, cell.rank
        groups.setdefault(place, {}).setdefault(cell.learning_rate, []).append(cell)
    order = [(cell.model, cell.data, cell.method, cell.quant, cell.rank) for cell in sweep.cells.values()]
    return [groups[place] for place in dict.fromkeys(order)]


def _loss(costs: Costs, cells: list[Cell]) -> float:
    return fmean(costs.training(cell)["final_loss"] for cell in cells)


def _row(sweep: Sweep, cells: dict[float, list[Cell]], losses: dict[float, float]) -> Row:
    first = next(iter(cells.values()))
    cell, config = first[0], sweep.config
    chosen = min(losses, key=lambda rate: (losses[rate], rate))
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
