"""Which base model a converted adapter belongs on, by a name that holds on other machines; was it quantized?"""

import re
from pathlib import Path
from typing import Any, NamedTuple

from pissa_repro.adapters.folder import Adapter
from pissa_repro.model.factors import BASE
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import read_json

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


class Base(NamedTuple):
    """The hub id and revision of a base, None where they are not known, and how they came about."""

    name: str | None
    revision: str | None
    said: str


def of(asked: str | None, trained: Adapter, start: Adapter, to: str) -> Base:
    """The base that the result is to be loaded on: the untouched model, or (to pissa) the residual.

    A start is made from the untouched model, so its folder names it; the trained adapter may name the residual that it
    was trained on, and does not count unless PEFT was to decompose that model. Raises UserError for an asked name that
    is a folder or no hub id.
    """
    known = [(None, None)] if to == "pissa" else [_recorded(start), _configured(start)]
    if to == "lora" and isinstance(trained.config.get("init_lora_weights"), str):
        known.append(_configured(trained))
    name, revision = next((one for one in known if one[0] and is_hub_id(one[0])), (None, None))
    if asked:
        if not is_hub_id(asked):
            raise UserError(f"--base {asked}: a hub id (owner/name) is needed; a folder of this machine is not kept.")
        return Base(asked, revision if asked == name else None, f"Base: {asked}, as given.")
    if name:
        return Base(name, revision, f"Base: {name}, as {start.path.name} says (--base names another).")
    wanted = "the residual" if to == "pissa" else "the untouched model"
    return Base(None, None, f"Base: {wanted}, by no name: a folder's path is not kept, --base gives a hub id.")


def is_hub_id(name: str) -> bool:
    """Whether a name is that of a model on a hub, as far as its form and this machine's folders say."""
    return HUB_ID.fullmatch(name) is not None and not Path(name).exists()


def _configured(adapter: Adapter) -> tuple[Any, Any]:
    """What PEFT wrote; a bare word is as likely a folder's name as an old hub id."""
    name = adapter.config.get("base_model_name_or_path")
    return (name, adapter.config.get("revision")) if isinstance(name, str) and "/" in name else (None, None)


def _recorded(adapter: Adapter) -> tuple[Any, Any]:
    """What is said beside a start that was decomposed here."""
    belongs = _belongs(adapter)
    return belongs.get("name"), belongs.get("commit")


def _belongs(adapter: Adapter) -> dict[str, Any]:
    path = adapter.path / BASE
    return read_json(path) if path.is_file() else {}


def quantization(trained: Adapter, start: Adapter) -> str | None:
    """How the base that was trained on is quantized, as far as the folders say; None for not, or not known.

    A released residual is the model folder around its start; one that was decomposed here says it beside the start.
    Raises UserError for a start that is not what was taken out of W (LoftQ).
    """
    if trained.config.get("loftq_config"):
        return "LoftQ"
    belongs = _belongs(start)
    if belongs.get("offset") == "own":
        raise UserError(
            f"{start.path}: what was taken out of W is not its A and B (LoftQ): its adapter is right on its own "
            "quantized base only."
        )
    if belongs.get("quant", "none") != "none":
        return str(belongs["quant"])
    around = start.path.parent / "config.json"
    given = read_json(around).get("quantization_config") if around.is_file() else None
    return str(given.get("quant_method", "config.json")) if given else None
