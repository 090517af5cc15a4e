"""The datasets of a config: files or hub ids, and the parts of others, as the sources that are fetched."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, cast

from pissa_repro.runtime.errors import UserError, unknown
from pissa_repro.runtime.specs import DataPart, DataSource
from pissa_repro.sources.split import span

PLACE = "config.datasets"
OWN = ("path", "hub", "revision", "file", "rows", "fields", "response_format")  # what says which rows, not a name
INHERITED = ("path", "hub", "revision", "file", "fields")  # what a part takes from the dataset that it is of
DEEPEST = 16  # parts of parts
Datasets = Mapping[str, Mapping[str, Any]]


def source(datasets: Datasets, name: str) -> DataSource:
    """Where the rows of a dataset come from; those of a part as the whole's, and what is taken of it.

    Raises UserError for an unknown name, for parts in a circle, and for keys that do not go together.
    """
    return _source(datasets, name, PLACE, ())


def trained_on(datasets: Datasets, name: str) -> Literal["response", "text", "label"]:
    """What the rows of a dataset teach, by their roles: a response, a plain text, or the label of a text's class.

    Raises UserError where they could teach several, and for a label without its text.
    """
    fields = source(datasets, name)["fields"]
    pair = [role for role in ("prompt", "response") if role in fields]
    alone = next((role for role in ("label", "text_pair", "text") if role in fields), None)
    if alone and pair:
        raise UserError(
            f"{PLACE}.{name}.fields: '{alone}' and '{pair[0]}'. Training takes either 'prompt' and 'response', or a "
            "plain 'text', or 'text' (and 'text_pair') with the 'label' of its class; give the rows another name for "
            "the other use."
        )
    if alone == "text_pair" or (alone == "label" and "text" not in fields):
        lacking = "label" if alone == "text_pair" else "text"
        raise UserError(f"{PLACE}.{name}.fields: '{alone}' and no '{lacking}', which goes with it.")
    return alone or "response"


def need_fields(datasets: Datasets, name: str, needed: Iterable[str], user: str) -> None:
    """Raise UserError for a dataset without a role that its user reads."""
    fields = source(datasets, name)["fields"]
    for role in needed:
        if role not in fields:
            raise UserError(f"{PLACE}.{name}.fields: no '{role}', which {user} reads. It has: {', '.join(fields)}.")


def _source(datasets: Datasets, name: str, place: str, way: tuple[str, ...]) -> DataSource:
    if name not in datasets:
        raise unknown("dataset", name, datasets, place)
    if name in way:
        raise UserError(f"{place}: parts in a circle: {', '.join([*way, name])}.")
    if len(way) > DEEPEST:
        raise UserError(f"{place}: parts of parts, more than {DEEPEST} deep.")
    definition = datasets[name]
    here = f"{PLACE}.{name}"
    _check(definition, here)
    own = {key: definition[key] for key in OWN if key in definition}
    if "of" not in definition:
        return cast("DataSource", own)
    whole = _source(datasets, definition["of"], f"{here}.of", (*way, name))
    if not {"prompt", "text"} & whole["fields"].keys():
        raise UserError(
            f"{here}.of: '{definition['of']}' has no field for the role 'prompt' or 'text', which decides the side."
        )
    parts = [*whole.get("parts", []), _part(datasets, definition, here)]
    return cast("DataSource", {**whole, **{key: own[key] for key in own if key != "rows"}, "parts": parts})


def _part(datasets: Datasets, definition: Mapping[str, Any], place: str) -> DataPart:
    """What a dataset takes of the one that it is of: a share, or what another share of the same leaves."""
    other = definition.get("without")
    if other is not None and other not in datasets:
        raise unknown("dataset", other, datasets, f"{place}.without")
    drawn = definition if other is None else datasets[other]
    if drawn.get("of") != definition["of"] or "share" not in drawn:
        raise UserError(f"{place}.without: '{other}' is no share of '{definition['of']}'.")
    part: DataPart = {"share": float(drawn["share"]), "seed": int(drawn.get("seed", 0))}
    if other is not None:
        part["rest"] = True
    if "rows" in definition:
        part["rows"] = definition["rows"]
    return part


def _check(definition: Mapping[str, Any], place: str) -> None:
    """Raise UserError for keys that do not go together, and for a range that holds nothing."""
    if "of" in definition and (given := [key for key in INHERITED if key in definition]):
        raise UserError(f"{place}: '{given[0]}' is that of '{definition['of']}', and is not given for a part of it.")
    if "of" not in definition and "fields" not in definition:
        raise UserError(f"{place}: no 'fields': which columns are prompt and response, or what its task reads.")
    if "of" not in definition and (given := [key for key in ("share", "without") if key in definition]):
        raise UserError(f"{place}: '{given[0]}' takes a part of a dataset, and no 'of' says of which.")
    if "seed" in definition and "share" not in definition:
        raise UserError(f"{place}: 'seed' draws a 'share', and there is none here.")
    try:
        span(definition.get("rows", 1))
    except ValueError as error:
        raise UserError(f"{place}.rows: {error}.") from None
