"""The two adapters stacked to one of twice the rank, or the first half of such a one: its config and its tensors."""

import math
from functools import partial
from typing import Any

import torch

from pissa_repro.adapters.folder import Adapter, Module
from pissa_repro.adapters.pair import Pair, Survey
from pissa_repro.model.factors import scaling
from pissa_repro.model.keys import PREFIX
from pissa_repro.model.peft_words import FROZEN, done
from pissa_repro.model.streamed import Entry

SCALES = ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora")


def config(pair: Pair, found: Survey, to: str) -> dict[str, Any]:
    """The config of what is written; all that is not the start's, or its scale, stays."""
    kept = done(pair.trained.config)
    if to == "pissa":
        return kept | {key: pair.start.config.get(key) for key in SCALES}
    return kept | doubled(pair.trained) if found.taken else kept


def doubled(adapter: Adapter) -> dict[str, Any]:
    """The fields of its config for twice the rank, patterns with their keys.

    alpha / r stays to the last bit with twice the alpha. With rsLoRA, alpha / sqrt(r), it takes sqrt(2) times the
    alpha, which no float holds: of those beside it, the one that comes nearest for all modules (`moved` says how near).
    """
    config, rslora = adapter.config, bool(adapter.config.get("use_rslora"))
    ranks: dict[float, set[int]] = {}
    for module in adapter.modules.values():
        ranks.setdefault(module.alpha, set()).add(module.rank)

    def more(alpha: float) -> float:
        return _root(alpha, ranks.get(alpha, {config["r"]})) if rslora else 2 * alpha

    fields = {"r": 2 * config["r"], "lora_alpha": more(config["lora_alpha"])}
    if config.get("rank_pattern"):
        fields["rank_pattern"] = {key: 2 * rank for key, rank in config["rank_pattern"].items()}
    if config.get("alpha_pattern"):
        fields["alpha_pattern"] = {key: more(alpha) for key, alpha in config["alpha_pattern"].items()}
    return fields


def _root(alpha: float, ranks: set[int]) -> float:
    """The float near sqrt(2) * alpha whose scaling at twice the ranks is nearest to that of alpha."""
    near = math.sqrt(2) * alpha
    down, up = math.nextafter(near, 0), math.nextafter(near, math.inf)
    candidates = (near, down, up, math.nextafter(down, 0), math.nextafter(up, math.inf))

    def misses(candidate: float) -> float:
        return max(abs(scaling(candidate, 2 * rank, True) - scaling(alpha, rank, True)) for rank in ranks)

    return min(candidates, key=misses)


def moved(before: dict[str, Module], after: dict[str, Module]) -> float:
    """The largest relative change of a module's scaling; 0 where all are the same floats."""
    return max(abs(after[name].scaling / module.scaling - 1) for name, module in before.items())


def entries(pair: Pair, found: Survey, to: str) -> tuple[dict[str, Entry], list[str]]:
    """The tensors of what is written, and the keys of the adapter's that are left out: weights of its base."""
    trained, made, dropped = pair.trained, {}, []
    for name, after, before in pair.modules():
        initial = pair.start.modules[pair.names[name]]
        for axis, (key, other) in enumerate(((after.a, initial.a), (after.b, initial.b))):
            dtype, shape = trained.tensors[key].dtype, list(trained.tensors[key].shape)
            if to == "pissa":
                shape[axis] = before.rank
                make = partial(_first, pair, key, axis, before.rank)
            elif found.taken:
                shape[axis] *= 2
                make = partial(_stacked, pair, key, other, axis)
            else:
                make = partial(pair.trained_tensor, key)
            made[key] = Entry(dtype, tuple(shape), make)
    for key in trained.others:
        if key.endswith(FROZEN) and key.removeprefix(PREFIX).removesuffix(FROZEN) in found.taken:
            dropped.append(key)
        else:
            tensor = trained.tensors[key]
            made[key] = Entry(tensor.dtype, tensor.shape, partial(pair.trained_tensor, key))
    return made, dropped


def _stacked(pair: Pair, key: str, other: str, axis: int) -> torch.Tensor:
    """[A; A0] or [B, -B0]."""
    initial = pair.start_tensor(other)
    return torch.cat([pair.trained_tensor(key), -initial if axis else initial], dim=axis)


def _first(pair: Pair, key: str, axis: int, rank: int) -> torch.Tensor:
    return pair.trained_tensor(key).narrow(axis, 0, rank)
