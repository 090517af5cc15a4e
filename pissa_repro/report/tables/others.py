"""The rows of a sweep's table that were not trained here: their scores, and no comparison that a recipe would need.

The base as it is stands above the trained rows, as row 0; what was trained elsewhere has a part of its own.
"""

from typing import Any

from pissa_repro.paper.words import NOT_COMPARABLE
from pissa_repro.plan.adopted import ELSEWHERE
from pissa_repro.plan.bases import UNTRAINED, BaseModel
from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.tables import captions
from pissa_repro.report.tables.columns import COLUMNS, names, origin, scores
from pissa_repro.report.tables.grid import Row, grid
from pissa_repro.results.rows import Other

HEADING = "### Trained elsewhere"
NOTES = {True: UNTRAINED, False: f"{ELSEWHERE}: its recipe is not known here"}  # by whether it is the base
CAPTION = (
    "These adapters were not trained here; that it was on {data} is the config's word. They are scored on the items of "
    "the rows above, merged into the base in float32, with the base's tokenizer. Their recipes are not this sweep's: "
    "no difference to LoRA is taken, and no published number stands beside. `pissa compare` pairs one with any cell, "
    "item by item."
)


def row(sweep: Sweep, line: Other) -> Row:
    """All columns of one row; those of a training are missing, but for its rank and parameters."""
    one = line.adopted
    known = {column: line.numbers(column) for column in ("rank", "trainable_parameters")}
    return {
        **dict.fromkeys(COLUMNS),
        **names(sweep, one, line.task),
        **{column: int(values[0]) for column, values in known.items() if values},
        "n": line.scores.shape[1],
        **scores(line),
        "verdict": NOT_COMPARABLE,
        "note": NOTES[is_base(line)],
        **origin(line),
        "place": (line.task, one.model, one.data),
        "measure": line.measure,
        "seen_in_training": int(max(line.numbers("seen_in_training"), default=0)),
        "reasons": (),
        "prompt": one.prompt,
        "references": None,
    }


def is_base(line: Other) -> bool:
    """Whether a row is the base as it is."""
    return isinstance(line.adopted, BaseModel)


def parts(rows: list[Row]) -> dict[Any, list[str]]:
    """What the Markdown says of these rows, by the place of the table that they stand in."""
    places: dict[Any, list[Row]] = {}
    for one in rows:
        places.setdefault(one["place"], []).append(one)
    return {place: [HEADING, grid(here, False, False), _caption(here)] for place, here in places.items()}


def _caption(rows: list[Row]) -> str:
    known = [{**row, "seeds": 1} for row in rows]
    return " ".join([*captions.scored(known), CAPTION.format(**rows[0]), *captions.prompts(rows), *captions.seen(rows)])
