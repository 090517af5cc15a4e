"""Which modules of a model get factors, and of what rank and alpha, where fields of LoraConfig say so.

PEFT decides by the names of the model's modules, which the files may abbreviate (GPT-2), and by their types. So the
model is built without its weights, and PEFT's own rule is asked; a list of names alone needs neither.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypedDict, cast

import torch

from pissa_repro.model import checkpoint, naming
from pissa_repro.model.architecture import CLASSIFICATION, architecture
from pissa_repro.model.base import module_name, stores_transposed
from pissa_repro.model.classes import modules
from pissa_repro.model.patterns import of_module
from pissa_repro.model.peft_words import ALL_LINEAR, PATTERNS
from pissa_repro.model.skeleton import trainable
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.specs import ModelStartSpec, Targets

FIELDS = "config.methods.<method>.lora"


class Own(TypedDict, total=False):
    """What a pattern gives a module instead of the usual rank and alpha."""

    rank: int
    alpha: float


def by_module(folder: str | Path, spec: ModelStartSpec) -> dict[str, ModelStartSpec]:
    """The spec of every target module, with its own rank and alpha. As `chosen`."""
    return {name: {**spec, **own} if own else spec for name, own in chosen(folder, spec).items()}


def chosen(folder: str | Path, wanted: Targets) -> dict[str, Own]:
    """What is the target modules' own, by the files' names in natural order.

    Raises UserError for a target that matches no module or one that cannot be decomposed, and for a field of which a
    part does nothing.
    """
    targets, fields = wanted["target_modules"], wanted.get("lora")
    if isinstance(targets, list) and not fields:
        return {name: {} for name in checkpoint.weights(folder, targets)}
    patterns: dict[str, dict[str, Any]] = {key: dict(pairs) for key, pairs in (fields or {}).items() if key in PATTERNS}  # type: ignore[call-overload]
    narrowing = {key: value for key, value in (fields or {}).items() if key not in PATTERNS}
    names = _chosen(folder, targets, narrowing)
    _refuse_idle_patterns(patterns, names)
    return {name: _own(patterns, names[name]) for name in checkpoint.weights(folder, list(names))}


def _own(patterns: Mapping[str, dict[str, Any]], module: str) -> Own:
    """module: the model's name of it."""
    found = {key: of_module(patterns, key, module) for key in ("rank", "alpha")}
    return cast("Own", {key: value for key, value in found.items() if value is not None})


def _chosen(folder: str | Path, targets: list[str] | str, narrowing: Mapping[str, Any]) -> dict[str, str]:
    """The chosen modules: {the files' name: the model's name}."""
    model = trainable(folder)
    names = _names(folder, model)
    if isinstance(targets, list):
        naming.matching([f"{name}.weight" for name in names], targets)  # each of them matches
    elif targets.lower() == ALL_LINEAR:
        targets = _linear(folder, model, names)
    chosen = _picked(names, targets, narrowing)
    _refuse_idle_parts(names, targets, narrowing)
    if not chosen:
        raise UserError(f"{checkpoint.TARGETS}, {FIELDS}: no module of {folder} is chosen by {targets!r}, {narrowing}.")
    return {names[name]: name for name in chosen}


def _names(folder: str | Path, model: Any) -> dict[str, str]:
    """The modules of the files that the model has: {the model's name: the files' name}."""
    names = {}
    for tensor in checkpoint.stored(folder):
        module = tensor.removesuffix(".weight")
        if module != tensor:
            try:
                names[module_name(model, module)] = module
            except UserError:  # a part of a stack of experts: no module, so no target
                continue
    return names


def _linear(folder: str | Path, model: Any, names: Mapping[str, str]) -> list[str]:
    """What PEFT takes "all-linear" for: linear layers and Conv1D but the output layer."""
    head = model.get_output_embeddings()
    outside = tuple(f"{name}." for name in modules(model)) if architecture(model.config) is CLASSIFICATION else ()
    found = [
        name
        for name, layer in model.named_modules()
        if (isinstance(layer, torch.nn.Linear) or stores_transposed(layer))
        and layer is not head
        and not f"{name}.".startswith(outside or "\0")
    ]
    if lacking := [name for name in found if name not in names]:
        raise UserError(
            f"{folder}: '{ALL_LINEAR}' takes {lacking[0]} too, which the files keep under another name. Name the "
            "target modules."
        )
    return found


def _picked(names: Iterable[str], targets: list[str] | str, narrowing: Mapping[str, Any]) -> list[str]:
    """The names that PEFT would choose."""
    from peft import LoraConfig
    from peft.tuners.tuners_utils import check_target_module_exists

    try:
        config = LoraConfig(target_modules=targets, **narrowing)
    except ValueError as error:
        raise UserError(f"{FIELDS}: {error}") from None
    return [name for name in names if check_target_module_exists(config, name)]


def _refuse_idle_parts(names: Iterable[str], targets: list[str] | str, narrowing: Mapping[str, Any]) -> None:
    """Raise UserError for a name that excludes nothing, and for a layer that has no target: PEFT passes over both."""
    whole = len(_picked(names, targets, {}))
    for part in _list(narrowing.get("exclude_modules")):
        given = part if isinstance(narrowing["exclude_modules"], str) else [part]
        if len(_picked(names, targets, {"exclude_modules": given})) == whole:
            raise UserError(f"{FIELDS}.exclude_modules: {part!r} excludes none of the {whole} target modules.")
    pattern = {key: value for key, value in narrowing.items() if key == "layers_pattern"}
    for part in _list(narrowing.get("layers_to_transform")):
        if not _picked(names, targets, {"layers_to_transform": part, **pattern}):
            raise UserError(f"{FIELDS}.layers_to_transform: no target module is in a layer {part}.")


def _refuse_idle_patterns(patterns: Mapping[str, dict[str, Any]], names: Mapping[str, str]) -> None:
    """Raise UserError for a pattern that decides nothing, for want of a module or since another one does before it."""
    for field, pattern in patterns.items():
        which = field.removesuffix("_pattern")
        for key, value in pattern.items():
            if field == "alpha_pattern" and patterns.get("rank_pattern", {}).get(key) == value:
                continue  # alpha: rank has put it behind those that are written (plan/lora.py)
            numbered = {field: {other: other for other in pattern}}
            if not any(of_module(numbered, which, name) == key for name in names.values()):
                raise UserError(
                    f"{FIELDS}.{field}: '{key}' decides no target module. Their names are such as "
                    f"{next(iter(names.values()))}, and the first pattern that matches holds."
                )


def _list(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]
