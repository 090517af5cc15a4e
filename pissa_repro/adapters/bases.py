"""Which base model an adapter belongs on, by a name that holds on other machines; a residual? was it quantized?"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pissa_repro.adapters.folder import CHANGING, Adapter
from pissa_repro.model import factors
from pissa_repro.model import folder as model_folder
from pissa_repro.runtime.errors import UserError

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
    known: list[tuple[str | None, str | None]] = (
        [(None, None)] if to == "pissa" else [_recorded(start), configured(start)]
    )
    if to == "lora" and isinstance(trained.config.get("init_lora_weights"), str):
        known.append(configured(trained))
    name, revision = next((one for one in known if one[0]), (None, None))
    if asked:
        asked_hub_id("--base", asked)
        return Base(asked, revision if asked == name else None, f"Base: {asked}, as given.")
    if name:
        return Base(name, revision, f"Base: {name}, as {start.path.name} says (--base names another).")
    wanted = "the residual" if to == "pissa" else "the untouched model"
    return Base(None, None, f"Base: {wanted}, by no name: a folder's path is not kept, --base gives a hub id.")


def common(adapters: Sequence[Adapter], asked: str | None) -> Base:
    """The one base of several adapters. asked: the hub id that the user gives.

    An adapter that names no base is taken to be on that of the others. Raises UserError where two name different ones,
    or another than the asked one, and for cells of different weights.
    """
    if asked:
        asked_hub_id("--base", asked)
    named = {(asked, None): "--base"} if asked else {}
    for adapter in adapters:
        name, revision = (adapter.config.get(key) for key in ("base_model_name_or_path", "revision"))
        if name and (is_hub_id(name) or not asked):
            named.setdefault((name, revision), str(adapter.path))
    hashes = {found for adapter in adapters if (found := fingerprint(adapter))}
    names, revisions = {name for name, _ in named}, {revision for _, revision in named} - {None}
    if any(len(one) > 1 for one in (names, revisions, hashes)):
        shown = "; ".join(f"{name}{f' at {rev}' if rev else ''} ({place})" for (name, rev), place in named.items())
        shown += f"; weights {', '.join(sorted(one[:12] for one in hashes))}" if len(hashes) > 1 else ""
        raise UserError(f"The adapters are of different bases: {shown}. Only adapters of one base can be combined.")
    name = next(iter(names), None)
    if name and is_hub_id(name):
        return Base(name, next(iter(revisions), None), f"Base: {name}.")
    return Base(None, None, "Base: by no name: a folder's path is not kept, --base gives a hub id.")


def fingerprint(adapter: Adapter) -> str | None:
    """The hash of the base's weights, where the adapter is a cell's: its factors lie beside it."""
    inside = adapter.path / factors.TRAINED
    return str(factors.belongs_of(inside)["fingerprint"]) if inside.is_dir() else None


def residual(adapter: Adapter) -> str | None:
    """Why an adapter seems to belong on a residual or a quantized base of its own; None where nothing says so.

    A folder that PEFT saved with its start marked as done looks like a plain LoRA, unless its base is at hand.
    """
    known = belongs(adapter)
    if known.get("offset") or known.get("quant", "none") != "none":
        return f"base.json says so ({known.get('method')}, base {known.get('quant')})"
    named, base = adapter.config.get("init_lora_weights"), adapter.config.get("base_model_name_or_path")
    if isinstance(named, str) and named.startswith(CHANGING):
        return f"init_lora_weights is '{named}'"
    if adapter.config.get("loftq_config"):
        return "it has a loftq_config"
    if isinstance(base, str) and base and (found := sorted(Path(base).glob("*_init"))):
        return f"its base {base} has the start of a residual in {found[0].name}/"
    return None


def is_hub_id(name: str) -> bool:
    """Whether a name is that of a model on a hub, as far as its form and this machine's folders say."""
    return HUB_ID.fullmatch(name) is not None and not Path(name).exists()


def asked_hub_id(option: str, name: str) -> None:
    """Raise UserError for a name given as `option` that is a folder here, or no hub id."""
    if not is_hub_id(name):
        raise UserError(f"{option} {name}: a hub id (owner/name) is needed; a folder of this machine is not kept.")


def configured(adapter: Adapter) -> tuple[str | None, str | None]:
    """The hub id and revision that PEFT wrote, if any; a bare word is as likely a folder's name as an old hub id."""
    name = adapter.config.get("base_model_name_or_path")
    known = isinstance(name, str) and "/" in name and is_hub_id(name)
    return (name, adapter.config.get("revision")) if known else (None, None)


def _recorded(adapter: Adapter) -> tuple[str | None, str | None]:
    """What is said beside a start that was decomposed here, of a model by hub id; a sweep's start may name a folder.

    A bare word is such a folder's name, unless the hub's commit is with it (gpt2).
    """
    known = belongs(adapter)
    name, commit = known.get("name"), known.get("commit")
    return (name, commit) if name and ("/" in name or commit) and is_hub_id(name) else (None, None)


def belongs(adapter: Adapter) -> dict[str, Any]:
    """What base.json beside an adapter says; empty without one. Raises UserError for another version's."""
    return factors.belongs_of(adapter.path) if (adapter.path / factors.BASE).is_file() else {}


def at_hand(*adapters: Adapter) -> list[Path]:
    """Model folders of this machine that adapters belong to: the one around each, and the one that its config names."""
    named = (adapter.config.get("base_model_name_or_path") for adapter in adapters)
    places = [adapter.path.parent for adapter in adapters] + [Path(name) for name in named if name]
    return [place for place in dict.fromkeys(places) if (place / model_folder.CONFIG).is_file()]


def takes_nothing(start: Adapter) -> bool:
    """Whether the record beside a start says that nothing is taken out of W for it, though it need not be zero.

    LoftQ with T = 1 makes up for what the quantization of W lost, and a start may move the model on purpose.
    """
    known = belongs(start)
    return "offset" in known and known["offset"] is None


def quantization(trained: Adapter, start: Adapter) -> str | None:
    """How the base that was trained on is quantized, as far as the folders say; None for not, or not known.

    A released residual is the model folder around its start; one that was decomposed here says it beside the start.
    Raises UserError for a start that is not what was taken out of W (LoftQ).
    """
    if trained.config.get("loftq_config"):
        return "LoftQ"
    known = belongs(start)
    if known.get("offset") == "own":
        raise UserError(
            f"{start.path}: what was taken out of W is not its A and B (LoftQ): its adapter is right on its own "
            "quantized base only."
        )
    if known.get("quant", "none") != "none":
        return str(known["quant"])
    around = start.path.parent / "config.json"
    return quantization_config(around) if around.is_file() else None


def quantization_config(path: Path) -> str | None:
    """How the weights beside a model's config.json are quantized; None where it says nothing of that."""
    given = model_folder.read_json(path).get("quantization_config")
    return str(given.get("quant_method", "config.json")) if isinstance(given, dict) and given else None
