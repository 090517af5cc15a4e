"""The rows of a sweep's table that were trained elsewhere: their scores, and no comparison that a recipe would need."""

from typing import Any

from pissa_repro.paper.words import NOT_COMPARABLE
from pissa_repro.plan.adopted import ELSEWHERE
from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.tables import captions
from pissa_repro.report.tables.columns import COLUMNS, names, origin, scores
from pissa_repro.report.tables.grid import Row, grid
from pissa_repro.results.rows import Elsewhere

HEADING = "### Trained elsewhere"
NOTE = f"{ELSEWHERE}: its recipe is not known here"
CAPTION = (
    "These adapters were not trained here; that it was on {data} is the config's word. They are scored on the items of "
    "the rows above, merged into the base in float32, with the base's tokenizer. Their recipes are not this sweep's: "
    "no difference to LoRA is taken, and no published number stands beside. `pissa compare` pairs one with any cell, "
    "item by item."
)


def row(sweep: Sweep, line: Elsewhere) -> Row:
    """All columns of one row; those of a training are missing, but for its rank and parameters."""
    one = line.adopted
    known = {"rank": "rank", "trainable_parameters": "trainable_parameters"}
    return {
        **dict.fromkeys(COLUMNS),
        **names(sweep, one, line.task),
        **{column: int(line.numbers(fact)[0]) for column, fact in known.items()},
        "n": line.scores.shape[1],
        **scores(line),
        "verdict": NOT_COMPARABLE,
        "note": NOTE,
        **origin(line),
        "place": (line.task, one.model, one.data),
        "measure": line.measure,
        "seen_in_training": int(max(line.numbers("seen_in_training"), default=0)),
        "reasons": (),
        "prompt": one.prompt,
        "references": None,
    }


def parts(rows: list[Row]) -> dict[Any, list[str]]:
    """What the Markdown says of these rows, by the place of the table that they stand in."""
    places: dict[Any, list[Row]] = {}
    for one in rows:
        places.setdefault(one["place"], []).append(one)
    return {place: [HEADING, grid(here, False, False), _caption(here)] for place, here in places.items()}


def _caption(rows: list[Row]) -> str:
    known = [{**row, "seeds": 1} for row in rows]
    return " ".join([*captions.scored(known), CAPTION.format(**rows[0]), *captions.prompts(rows), *captions.seen(rows)])
