"""Whether a training fits a card, by arithmetic, and what would let it fit."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from pissa_repro.model.size import Size
from pissa_repro.plan.cells import Cell
from pissa_repro.plan.sweep import Sweep
from pissa_repro.results.costs import GIB
from pissa_repro.runtime.processes import AUTO, FULL, NONE
from pissa_repro.training.memory import BYTES, ROOM, TRAINED, held, packs, shares

CARD = 80.0  # GiB of the card that is meant where none is named
MOST_CARDS = 64
FOUR_BITS = "nf4"


class Asked(NamedTuple):
    """A cell that trains on cards, its method's name in tables, and the GiB that it takes of each; None: not known."""

    cell: Cell
    what: str
    memory: float | None


def trained(sweep: Sweep, cell: Cell, size: Size) -> int:
    """Trained parameters."""
    if not sweep.has_factors(cell):
        return size.parameters
    targets = sweep.targets(cell)["target_modules"]
    return size.factors(cell.rank, targets if isinstance(targets, list | tuple) else None)


def memory(
    sweep: Sweep, cell: Cell, size: Size, cards: int | None = None, quant: str | None = None, card: float = CARD
) -> float:
    """GiB of base and trained parameters while training, on a card, without activations.

    cards: that share the weights; None for those of the config, which share them where it says so, or where
    `sharding: auto` does on cards of `card` GiB. quant: None for the cell's. What trains of an adapter is not shared.
    """
    own = trained(sweep, cell, size) if sweep.has_factors(cell) else None
    given = (size, own, quant or cell.quant, dict(cell.train)["dtype"])
    if cards is not None:
        return held(*given, cards, shared=True) / GIB
    model = sweep.config["models"][cell.model]
    cards, way = max(1, model.get("gpus", 0)), model.get("sharding", NONE)
    alone = held(*given, cards)
    shared = way == FULL or (way == AUTO and cards > 1 and shares(alone, card * GIB))
    return (held(*given, cards, shared) if shared else alone) / GIB


def asked(sweep: Sweep, sizes: Mapping[str, Size | None], card: float = CARD) -> Iterator[Asked]:
    """Each setting of the sweep that trains on cards and whose model's size is known, once; by arithmetic.

    card: GiB of a card.
    """
    seen = set()
    for cell in sweep.cells.values():
        size, what = sizes.get(cell.model), sweep.display(cell)
        key = (cell.model, what, cell.quant, cell.rank, dict(cell.train)["dtype"])
        if size and key not in seen and sweep.config["models"][cell.model].get("gpus", 0):
            seen.add(key)
            yield Asked(cell, what, memory(sweep, cell, size, card=card))


def told(sweep: Sweep, settings: Iterable[Asked], sizes: Mapping[str, Size | None], card: float) -> Iterator[str]:
    """A text for each model with cells that take more than a card has: which, which others fit, and what would help."""
    by_model: dict[str, list[Asked]] = {}
    for one in settings:
        by_model.setdefault(one.cell.model, []).append(one)
    for model, own in by_model.items():
        large = {f"{one.what} ({short(one.memory)} GiB)": one for one in own if one.memory and one.memory > card}
        fit = dict.fromkeys(one.what for one in own if one not in large.values())
        if large:
            size, shown = sizes[model], sweep.config["models"][model].get("display", model)
            yield " ".join([
                f"{shown}: more than one card of {short(card)} GiB: {', '.join(large)};",
                f"{', '.join(fit)} of it would fit." if fit else "none of its cells would fit.",
                *(dict.fromkeys(_helps(sweep, one, size, card) for one in large.values()) if size else ()),
            ])  # fmt: skip


def unscored(sweep: Sweep, models: Iterable[str], sizes: Mapping[str, Size | None], card: float) -> Iterator[str]:
    """A text for each model that the back-end hf cannot score on a card: it would stop after all trainings."""
    tasks = [name for name in sweep.config["sweep"]["tasks"] if sweep.asked(name)["backend"] == "hf"]
    for model in dict.fromkeys(models):
        size, given = sizes.get(model), sweep.config["models"][model]
        if tasks and size and given.get("gpus", 0) and (taken := BYTES["float32"] * size.parameters / GIB) > card:
            yield (
                f"{given.get('display', model)}: the backend hf scores it whole in float32, {short(taken)} GiB, and a "
                f"card has {short(card)}: give {', '.join(tasks)} backend: vllm."
            )


def _helps(sweep: Sweep, one: Asked, size: Size, card: float) -> str:
    if found := ways(sweep, one.cell, size, card):
        return f"{one.what} fits with {', or '.join(found)}."
    return f"{one.what} fits no {MOST_CARDS} such cards."


def ways(sweep: Sweep, cell: Cell, size: Size, card: float) -> list[str]:
    """What would let a cell fit a card of so many GiB, which activations share, in words; empty where nothing would."""
    model, batch, found = sweep.config["models"][cell.model], dict(cell.train)["batch_size"], []
    if memory(sweep, cell, size, card=card) <= card:
        return ["a lower micro_batch_size"]  # what was measured is more: activations
    room = ROOM * card
    here = model.get("gpus", 0)
    for count in (here, *range(2, MOST_CARDS + 1)):
        if count < 2 or batch % count or (each := memory(sweep, cell, size, count)) > room:
            continue
        same = count == here and model.get("sharding") not in (FULL, AUTO)
        words = f"sharding: full on its {count} cards" if same else f"sharding: full and gpus: {count}"
        found.append(f"{words} ({short(each)} GiB each)")
        break
    if sweep.has_factors(cell):
        packed = memory(sweep, cell, size, quant=FOUR_BITS, card=card)
        if not packs(cell.quant) and packed <= room:
            found.append(f"{FOUR_BITS} ({short(packed)} GiB)")
        if TRAINED * trained(sweep, cell, size) / GIB > room:
            found.append("a lower rank")
    return found


def short(value: float | None) -> str:
    """Two digits that matter; nothing for what is not known."""
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}"
