"""What an adapter's folder is, in words and figures: from its config, its card and its header, no tensor is read."""

import math
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

from pissa_repro.adapters import bases, card, folder
from pissa_repro.adapters.fit import Fit, Needed
from pissa_repro.adapters.folder import CHANGING, Adapter
from pissa_repro.model import classes
from pissa_repro.model import folder as model_folder
from pissa_repro.model.header import Stored
from pissa_repro.model.naming import order, types

UNMARKED = (
    "A plain LoRA, as far as its files say; a PiSSA adapter whose start PEFT's user marked as done looks the same, and "
    "belongs on its residual."
)
WORDS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@dataclass
class Found:
    """What is known of a folder. loading: Markdown; adapter: what a base is compared with, None for whole models."""

    path: Path
    kind: str
    what: str
    loading: str
    base: Needed | None = None
    adapter: Adapter | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    given: Fit | None = None


def adapter(path: Path) -> Found:
    """What an adapter of PEFT's is. Raises UserError for one that is damaged, or no LoRA."""
    config = folder.config_of(path / folder.CONFIG)
    more = next((name for name in folder.MORE_THAN_LORA if config.get(name)), None)
    read = folder.of(path, folder.weights(path), config) if more else folder.read(path, "DIR")
    said, named = card_says(path), config.get("init_lora_weights")
    needed = Needed(*_named(config), form="residual" if said == "to pissa" else "untouched")
    what = f"A LoRA with {more}." if more else UNMARKED
    found = Found(path, "adapter", what, "", needed, read, facts(read), _notes(path, read))
    if isinstance(named, str) and named.startswith(CHANGING):
        found.what = f"An adapter on a residual ({named}): PEFT takes its start out of the base when it loads it."
        found.notes.append(_again(named))
    elif own := _own_base(read):
        found.what, found.base = own, needed._replace(form="residual")
    elif reason := bases.residual(read):
        found.what, found.base = f"An adapter on a residual: {reason}.", needed._replace(form="residual")
    elif said:
        found.what = card.WHAT[said]
    if more:
        found.notes.append(f"{more} makes it no plain LoRA: {folder.MORE_THAN_LORA[more]}.")
    limit, why = card.vllm(read.rank, config)
    found.facts["vllm"] = {"max_lora_rank": limit, "why": why}
    on_residual = found.base is not None and found.base.form == "residual"
    model = needed.name or ("RESIDUAL" if on_residual else "BASE")
    found.loading = card.loading(model, str(path), read.rank, config, classes.loading(path))
    return found


def _own_base(read: Adapter) -> str | None:
    """What base.json beside an adapter says, where its base is not the untouched model."""
    belongs = bases.belongs(read)
    offset, quant = belongs.get("offset"), belongs.get("quant", "none")
    if offset is None and quant == "none":
        return None
    rest = {None: "W", "start": "W - s B0 A0"}.get(offset, "W less an offset of its own")
    which = "The start" if read.path.name.endswith("_init") else "An adapter"
    on = rest if quant == "none" else f"{quant}({rest})"
    return (
        f"{which} of {belongs.get('method', 'a method')}, on {'the residual ' if offset else ''}{on}, not on W itself."
    )


def _again(named: str) -> str:
    """What a reload does to an adapter whose config still names its start (pitfalls 1, 2 and 4)."""
    exact = named in ("pissa", "olora")
    return (
        f"{named} runs again at each load, on the untouched base only"
        + ("" if exact else ", and gives another start than in training: the model is wrong (pitfalls 1 and 2)")
        + ". No two such adapters share a base, and vLLM takes nothing out of it: `pissa convert` makes a plain LoRA."
    )


def card_says(path: Path) -> str | None:
    """Which of card.WHAT the README.md of a folder holds."""
    readme = path / "README.md"
    text = readme.read_text(encoding="utf-8", errors="replace") if readme.is_file() else ""
    return next((kind for kind, sentence in card.WHAT.items() if sentence in text), None)


def _named(config: dict[str, Any]) -> tuple[Any, Any]:
    return config.get("base_model_name_or_path"), config.get("revision")


def _notes(path: Path, adapter: Adapter) -> list[str]:
    """What a user should know of an adapter before loading it."""
    notes, config = [], adapter.config
    if adapter.others:
        notes.append(f"It holds more than A and B: {', '.join(adapter.others[:3])} ({len(adapter.others)} in all).")
    if (name := config.get("base_model_name_or_path")) and not bases.is_hub_id(name):
        notes.append(f"Its base is named by a folder, {name}, which other machines do not have.")
    targets = config.get("target_modules")
    notes += [
        f"target_modules has {target}, of which the file holds no factors: is it whole?"
        for target in (targets if isinstance(targets, list) else ())
        if not any(name == target or name.endswith(f".{target}") for name in adapter.modules)
    ]
    if newer := _newer(config.get("peft_version")):
        notes.append(newer)
    if (path / model_folder.CONFIG).is_file():
        notes.append("A whole model lies in the same folder: transformers would put this adapter on it.")
    return notes


def _newer(written: Any) -> str | None:
    """A sentence on a config of a newer PEFT than the installed one."""
    try:
        if Version(str(written).partition("@")[0]) > Version(version("peft")):
            return f"It was written by PEFT {written}; here is {version('peft')}, which may not know all of its fields."
    except InvalidVersion:  # none is named
        pass
    return None


def facts(adapter: Adapter) -> dict[str, Any]:
    """Ranks, scalings, modules and sizes of an adapter."""
    modules = adapter.modules.values()
    return {
        "rank": adapter.rank,
        "ranks": sorted({one.rank for one in modules}),
        "scalings": sorted({one.scaling for one in modules}),
        "modules": len(modules),
        "types": sorted(set(types(adapter.modules).values()), key=order),
        **sizes(adapter.tensors),
    }


def sizes(tensors: dict[str, Stored]) -> dict[str, Any]:
    """Parameters, bytes and dtypes of what a file or a model holds."""
    return {
        "parameters": sum(math.prod(one.shape) for one in tensors.values()),
        "bytes": sum(path.stat().st_size for path in {one.path for one in tensors.values()}),
        "dtypes": sorted({WORDS.get(one.dtype, one.dtype) for one in tensors.values()}),
    }
