"""Several plain LoRA adapters of one base as one adapter: what is asked for, refused, and written.

PEFT does the arithmetic (adapters/weighted.py). Adapters on residuals are refused: each belongs on a base of its own,
W - s B0 A0, so that a sum of their B A has no base at all.
"""

import math
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from pissa_repro.adapters import bases, card, folder, logits, weighted
from pissa_repro.adapters.folder import ADAPTER, CONFIG, Adapter
from pissa_repro.model.peft_words import FROZEN, done
from pissa_repro.runtime.errors import UserError, unknown
from pissa_repro.runtime.record import atomic, atomic_folder, refuse_existing, refuse_no_space, write_json

BY_FACTOR = ("linear", "ties", "dare_linear", "dare_ties", "magnitude_prune")  # A with A, B with B
BY_SVD = ("svd", "ties_svd", "dare_linear_svd", "dare_ties_svd", "magnitude_prune_svd")
HOW = ("cat", *BY_SVD, *BY_FACTOR)
SPARSE = tuple(how for how in HOW if how not in ("cat", "svd", "linear"))
# Fields that choose modules, or name what is no factor: the names of the result's modules say all.
SAID_BY_NAMES = (
    *("layers_to_transform", "layers_pattern", "exclude_modules"),
    *("modules_to_save", "trainable_token_indices"),
)
ROUNDING = 1e-6  # of factors in float32, and of the distance, a difference of squares


@dataclass(frozen=True)
class Asked:
    """A combination. base: the hub id that the user gives; check: a folder of the base, to compare logits, or None."""

    adapters: list[Path]
    out: Path
    recipe: weighted.Recipe
    base: str | None = None
    check: Path | None = None


def combine(asked: Asked) -> list[str]:
    """Write the folder of the combined adapter; returns what is to be said of it, a line each.

    Raises UserError for what PEFT's method refuses or gets wrong, for adapters of several bases or on a residual,
    and where OUT exists.
    """
    _refuse_recipe(asked)
    refuse_existing(asked.out)
    adapters = [folder.read(path, "ADAPTER") for path in asked.adapters]
    for adapter in adapters:
        _refuse_more(adapter)
    base = bases.common(adapters, asked.base)
    _refuse_shapes(adapters, asked.recipe)
    refuse_no_space(asked.out, _needed(adapters, asked.recipe))
    made = weighted.combine(adapters, asked.recipe)
    away = weighted.distance(made, adapters, asked.recipe.weights)
    far = f"{away:.2g} away from" if away > ROUNDING else "equal to"
    notes = [
        base.said,
        _said(asked),
        f"Its update is {far} the weighted sum of theirs, relative (Frobenius, over all modules).",
    ]
    config = _config(adapters, made) | {"base_model_name_or_path": base.name, "revision": base.revision}
    _write(asked, adapters, made, config, notes)
    return notes


def _refuse_recipe(asked: Asked) -> None:
    how, weights, density, rank, _ = asked.recipe
    if how not in HOW:
        raise unknown("combination", how, HOW, "--how")
    if len(asked.adapters) < 2:
        raise UserError(f"ADAPTER: {len(asked.adapters)} given, two or more are combined.")
    if len(weights) != len(asked.adapters):
        raise UserError(f"--weights: {len(weights)} given for {len(asked.adapters)} adapters. Repeat it for each.")
    if not all(math.isfinite(weight) for weight in weights) or not any(weights):
        raise UserError(f"--weights {', '.join(map(str, weights))}: finite numbers are needed, and one that is not 0.")
    if (density is not None) != (how in SPARSE):
        needed = "needs --density, the share of values that is kept" if how in SPARSE else "takes no --density"
        raise UserError(f"--how {how}: {needed}. Those that prune: {', '.join(SPARSE)}.")
    if density is not None and not 0 < density <= 1:
        raise UserError(f"--density {density}: a share above 0, at most 1, is needed.")
    if rank is not None and (how not in BY_SVD or rank < 1):
        raise UserError(f"--rank {rank}: a number above 0, with one of {', '.join(BY_SVD)}; the others decide it.")


def _refuse_more(adapter: Adapter) -> None:
    """Raise UserError for an adapter on a residual, and for one that is more than its factors."""
    if reason := bases.residual(adapter):
        raise UserError(
            f"{adapter.path}: {reason}, so it belongs on a residual of its own and has no base in common with others. "
            "Make a plain LoRA of it first: pissa convert."
        )
    for key in adapter.others:
        if not key.endswith(FROZEN):
            raise UserError(
                f"{adapter.path}: holds {key}. Only factors can be combined; PEFT would leave it out without a word. "
                "Merge the adapters into the base one after the other instead."
            )
    for name, module in adapter.modules.items():
        shape = adapter.tensors[module.a].shape
        if len(shape) != 2:
            raise UserError(f"{adapter.path}: {name} is a convolution ({shape}). Only matrices are combined here.")


def _refuse_shapes(adapters: list[Adapter], recipe: weighted.Recipe) -> None:
    """Raise UserError for a module of other sizes in another adapter, and for other ranks where A and B are added."""
    seen: dict[str, tuple[Adapter, tuple[Any, ...]]] = {}
    for adapter in adapters:
        for name, module in adapter.modules.items():
            sizes = (*_sides(adapter, name), folder.is_embedding(module.a))
            first, wanted = seen.setdefault(name, (adapter, sizes))
            if sizes != wanted:
                raise UserError(
                    f"{name}: {sizes[:2]} (in, out) in {adapter.path}, {wanted[:2]} in {first.path}. "
                    "They are not of one base."
                )
            ranks = (module.rank, adapter.rank), (first.modules[name].rank, first.rank)
            if recipe.how in BY_FACTOR and ranks[0] != ranks[1]:
                raise UserError(
                    f"--how {recipe.how} adds A to A and B to B, so that ranks must be equal: {name} has rank "
                    f"{module.rank} in {adapter.path}, {first.modules[name].rank} in {first.path}. "
                    f"Choices: {', '.join(('cat', *BY_SVD))}."
                )
    tasks = {str(adapter.config["task_type"]) for adapter in adapters if adapter.config.get("task_type")}
    if len(tasks) > 1:
        raise UserError(f"task_type differs: {', '.join(sorted(tasks))}. Adapters of one task are combined.")


def _sides(adapter: Adapter, name: str) -> tuple[int, int]:
    module = adapter.modules[name]
    return adapter.tensors[module.a].shape[1], adapter.tensors[module.b].shape[0]


def _needed(adapters: list[Adapter], recipe: weighted.Recipe) -> int:
    """About how many bytes are written: factors in float32, of the rank that PEFT gives them."""
    ranks = [adapter.rank for adapter in adapters]
    rank = sum(ranks) if recipe.how == "cat" else recipe.rank or max(ranks)
    sides = {name: sum(_sides(adapter, name)) for adapter in adapters for name in adapter.modules}
    return 4 * rank * sum(sides.values())


def _said(asked: Asked) -> str:
    how, weights, density, rank, seed = asked.recipe
    said = [f"weights {', '.join(f'{weight:g}' for weight in weights)}"]
    said += [f"density {density:g}"] if density is not None else []
    said += [f"rank {rank}"] if rank else []
    said += [f"seed {seed}"] if how.startswith("dare") else []
    return f"Combined by PEFT's add_weighted_adapter: {how}, {', '.join(said)}."


def _config(adapters: list[Adapter], made: weighted.Factors) -> dict[str, Any]:
    """The first adapter's config for the result: its modules by their names, alpha = r everywhere.

    A matrix with a side below the rank has its own in rank_pattern, which PEFT leaves out and then cannot load.
    """
    rank = max(len(a) for a, _ in made.values())
    others = {re.escape(name): len(a) for name, (a, _) in made.items() if len(a) != rank}
    return done(adapters[0].config) | dict.fromkeys(SAID_BY_NAMES) | {
        "r": rank, "lora_alpha": rank, "use_rslora": False, "rank_pattern": others, "alpha_pattern": others,
        "target_modules": sorted(made), "bias": "none", "inference_mode": True,
    }  # fmt: skip


def _write(
    asked: Asked,
    adapters: list[Adapter],
    made: weighted.Factors,
    config: dict[str, Any],
    notes: list[str],
) -> None:
    """The folder, which appears once it is whole and, if that is asked for, its logits are right."""
    modules = {name: module for adapter in adapters for name, module in adapter.modules.items()}
    tensors = {modules[name].a: a for name, (a, _) in made.items()}
    tensors |= {modules[name].b: b for name, (_, b) in made.items()}
    with atomic_folder(asked.out) as unfinished:
        save_file(tensors, unfinished / ADAPTER, {"format": "pt"})
        write_json(unfinished / CONFIG, config)
        if asked.check:
            put_on = partial(weighted.put_on, adapters=adapters, recipe=asked.recipe)
            notes.append(logits.checked_on(asked.check, put_on, unfinished))
        with atomic(unfinished / "README.md") as file:
            file.write(card.text("combined", asked.out.name, adapters, config, notes))
