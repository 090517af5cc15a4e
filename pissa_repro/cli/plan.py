"""Say what tables and figures take: cells, hours, memory, disk.

    pissa plan
    pissa plan table2 --configfile config/paper.yaml

EXHIBIT is a name of `pissa exhibits` without its folder; without one, all that the paper numbers and the config can
carry. A line is for the cells that differ in their seed alone; where lines differ in training data or learning rate,
they have a column for it. Hours are of GPUs where the config gives the model any, else of CPU cores. They come from the
records of such trainings in --results where there are any, else from arithmetic, and each line says which. Cells on
GPUs that do not fit one card are marked by *, with what would fit. Models that do not fit one card when they are scored
are named. Needs no GPU and no network.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pissa_repro.cli._configs import Files, swept
from pissa_repro.cli._table import show
from pissa_repro.results.fitting import CARD, Asked, short, told, unscored

if TYPE_CHECKING:
    from pissa_repro.exhibits import Output
    from pissa_repro.plan.sweep import Sweep
    from pissa_repro.results.forecast import Item

SOMETIMES = ("data", "rate")  # columns for lines that differ in them
NUMBERS = ("cells", "made", "hours", "scoring", "memory, GiB", "disk, GiB")
HEADS = ("model", "what", "base", "rank", *SOMETIMES, *NUMBERS, "from")


def plan(
    exhibit: Annotated[str | None, typer.Argument(help="One table or figure, such as table2.")] = None,
    configfile: Files = None,
    results: Annotated[Path, typer.Option(help="The folder of records.")] = Path("results"),
    card: Annotated[float, typer.Option(help="Memory of one GPU, in GiB.", min=1)] = CARD,
) -> None:
    """A line for each setting, and a sum."""
    from pissa_repro.results.forecast import ASSUMED, Forecast

    sweep = swept(configfile)
    asked = wanted(sweep, exhibit)
    forecast = Forecast(sweep, results, card)
    lines: dict[tuple[object, ...], Item] = {}
    for output in asked:
        for item in forecast.items(output.sweep, output.needs()):
            lines.setdefault((item.model, item.what, item.quant, item.rank, *item.names), item)
    items = _once(list(lines.values()))
    print(", ".join(str(output.target) for output in asked))
    if not items:
        print("Nothing is trained or measured for it.")
        return
    show(*_differing([_row(sweep, item, card) for item in items]))
    print(_sum(items))
    if any(item.source == "arithmetic" for item in items):
        print(f"{ASSUMED}.")
    on_cards = [Asked(item.cell, item.what, item.memory) for item in items if item.cell and item.device == "GPU"]
    for text in told(sweep, on_cards, forecast.sizes, card):
        print(f"* {text} Else take these out of sweep.cells, or say --card for a larger one.")
    for text in unscored(sweep, (one.cell.model for one in on_cards), forecast.sizes, card):
        print(text)


def wanted(sweep: "Sweep", exhibit: str | None) -> "list[Output]":
    """The outputs of an exhibit; without a name, all of the paper's that can be made.

    Raises UserError for an unknown name, and for an exhibit that this config cannot carry.
    """
    from pissa_repro.exhibits import name_of, outputs
    from pissa_repro.runtime.errors import unknown

    known = outputs(sweep)
    if exhibit is None:
        return [output for output in known if output.exhibit.PAPER and output.possible]
    found = [output for output in known if exhibit in (name_of(output.exhibit), output.place)]
    if not found:
        raise unknown("exhibit", exhibit, {name_of(output.exhibit) for output in known}, "pissa plan")
    for output in found:
        output.needs()
    return found


def _once(items: "list[Item]") -> "list[Item]":
    """Every cell in one line only: the line with the most cells keeps it."""
    taken: set[str] = set()
    kept = []
    for item in sorted(items, key=lambda item: -item.cells):
        if not item.names or not taken >= {*item.names}:
            kept.append(item)
            taken |= {*item.names}
    return sorted(kept, key=items.index)


def _over(item: "Item", card: float) -> bool:
    return item.device == "GPU" and item.memory is not None and item.memory > card


def _shown(sweep: "Sweep", model: str) -> str:
    return sweep.config["models"].get(model, {}).get("display", model)  # a toy has none


def _row(sweep: "Sweep", item: "Item", card: float) -> tuple[str, ...]:
    name, memory = _shown(sweep, item.model), short(item.memory) + (" *" if _over(item, card) else "")
    numbers = (short(item.hours), short(item.scoring), memory, short(item.disk))
    rank, cells = (str(value or "") for value in (item.rank, item.cells))
    rate = "" if item.rate is None else f"{item.rate:g}"
    made = str(item.made) if item.cells else ""
    return (name, item.what, item.quant, rank, item.data, rate, cells, made, *numbers, item.source)


def _differing(rows: list[tuple[str, ...]]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows without those columns of SOMETIMES that tell no two lines apart."""
    alike = [head for head, *values in zip(HEADS, *rows, strict=True) if len({*values} - {""}) < 2]
    kept = [number for number, head in enumerate(HEADS) if head not in SOMETIMES or head not in alike]
    return [HEADS[number] for number in kept], [[row[number] for number in kept] for row in rows]


def _sum(items: "list[Item]") -> str:
    """Cells, and the hours of what is not made yet, apart for GPUs and cores."""
    parts = [f"{sum(item.cells for item in items)} cells, {sum(item.made for item in items)} made"]
    for device in ("GPU", "core"):
        here = [item for item in items if item.device == device]
        known = [item.hours * _left(item) for item in here if item.hours is not None]
        scoring = [item.scoring for item in here if item.scoring is not None]
        if here:
            unknown = sum(item.hours is None for item in here)
            words = f"{short(sum(known))} {device} hours to go" + (f", {unknown} lines not known" if unknown else "")
            parts.append(words + (f", and {short(sum(scoring))} of scoring" if scoring else ", scoring not counted"))
    most = max((item.memory for item in items if item.memory is not None), default=None)
    disk = sum(item.disk for item in items if item.disk is not None)
    parts += [f"{short(most)} GiB of memory at most"] if most is not None else []
    return f"Sum: {'; '.join([*parts, f'{short(disk)} GiB on disk beside the models'])}."


def _left(item: "Item") -> float:
    """The share of a line that is not made yet."""
    if item.cells:
        return 1 - item.made / item.cells
    return 0.0 if item.source.endswith("this record") else 1.0
