"""The keys under which files hold the parts of modules: PEFT's for A and B, and like them for the core."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file

from pissa_repro.runtime.errors import UserError

Matrices = dict[str, torch.Tensor]
PREFIX = "base_model.model."  # PEFT's, before the name of a module
KEYS = {
    "A": "lora_A.weight",
    "B": "lora_B.weight",
    "core": "lora_core.weight",
    "free": "lora_core.free",
}  # after a module's name


def named(parts: Mapping[str, Matrices]) -> Matrices:
    """The tensors of parts, {part: {module: tensor}}, under their keys."""
    return {f"{PREFIX}{name}.{KEYS[part]}": tensor.contiguous()
            for part, tensors in parts.items() for name, tensor in tensors.items()}  # fmt: skip


def part_of(key: str) -> tuple[str, str]:
    """The module and the part that a key of a file holds; "" for what is no part (DoRA's magnitudes, biases)."""
    name, is_factor, rest = key.removeprefix(PREFIX).rpartition(".lora_")
    part = next((part for part, end in KEYS.items() if is_factor + rest == f".{end}"), "")
    return name, part


def read(path: Path) -> dict[str, Matrices]:
    """The tensors of a file: {part: {module: tensor}}, all parts."""
    try:
        tensors = load_file(path)
    except Exception as error:  # safetensors raises its own type for damage, OSError for absence
        raise UserError(f"{path}: cannot be read ({error}). Delete its folder and run again.") from None
    parts: dict[str, Matrices] = {part: {} for part in KEYS}
    for key, tensor in tensors.items():
        name, part = part_of(key)
        if not part:
            raise UserError(f"{path}: holds {key}, more than factors (DoRA's magnitudes, biases?).")
        parts[part][name] = tensor
    return parts
