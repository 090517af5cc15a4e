"""Rank and alpha of single modules in the fields of PEFT's LoraConfig."""

import re
from collections.abc import Iterable, Mapping
from typing import Any


def of_module(config: Mapping[str, Any], which: str, module: str) -> Any:
    """A module's "rank" or "alpha": of the first pattern that it ends in, as PEFT's get_pattern_key, else the usual."""
    for key, value in (config.get(f"{which}_pattern") or {}).items():
        if re.match(rf"(.*\.)?({key})$", module):
            return value
    return config.get("r" if which == "rank" else "lora_alpha")


def patterns(config: Mapping[str, Any], ranks: Mapping[str, int], alphas: Mapping[str, float]) -> dict[str, Any]:
    """rank_pattern and alpha_pattern of LoraConfig for modules with these, where they are not the config's usual ones.

    Each key is one whole name. Without a difference there is no pattern.
    """
    found: dict[str, dict[str, Any]] = {
        "rank_pattern": {name: rank for name, rank in ranks.items() if rank != config["r"]},
        "alpha_pattern": {name: alpha for name, alpha in alphas.items() if alpha != config["lora_alpha"]},
    }
    return {
        field: {f"^{re.escape(name)}": value for name, value in values.items()}
        for field, values in found.items()
        if values
    }


def alphas(config: Mapping[str, Any], modules: Iterable[str]) -> dict[str, float]:
    """The alpha of the modules that have another one than the config's usual one."""
    found = {name: of_module(config, "alpha", name) for name in modules}
    return {name: alpha for name, alpha in found.items() if alpha != config["lora_alpha"]}
