"""The datasets of a config: files or hub ids, and the parts of others, as the sources that are fetched."""

from collections.abc import Mapping
from typing import Any, cast

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


def has_classes(datasets: Datasets, name: str) -> bool:
    """Whether the rows of a dataset train a model to give classes: they have a role `label`.

    Raises UserError where they could train answers as well, and where they have no text.
    """
    fields = source(datasets, name)["fields"]
    if "label" not in fields:
        if "text_pair" in fields:
            raise UserError(f"{PLACE}.{name}.fields: 'text_pair' goes with 'text' and 'label'.")
        return False
    if other := [role for role in ("prompt", "response") if role in fields]:
        raise UserError(
            f"{PLACE}.{name}.fields: 'label' and '{other[0]}'. Training takes either 'prompt' and 'response', or "
            "'text' (and 'text_pair') with the 'label' of its class; give the rows another name for the other use."
        )
    if "text" not in fields:
        raise UserError(f"{PLACE}.{name}.fields: 'label' and no 'text' whose class it is.")
    return True


def is_text(datasets: Datasets, name: str) -> bool:
    """Whether the rows of a dataset train as plain texts. Raises UserError where they could be prompts as well."""
    if has_classes(datasets, name):
        return False
    fields = source(datasets, name)["fields"]
    pair = [role for role in ("prompt", "response") if role in fields]
    if "text" in fields and pair:
        raise UserError(
            f"{PLACE}.{name}.fields: 'text' and '{pair[0]}'. Training takes either 'prompt' and 'response', or a plain "
            "'text'; give the rows another name for the other use."
        )
    return "text" in fields


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
    if "seed" in definition and "share" not in definition:
        raise UserError(f"{place}: 'seed' draws a 'share', and there is none here.")
    try:
        span(definition.get("rows", 1))
    except ValueError as error:
        raise UserError(f"{place}.rows: {error}.") from None
