"""Put the factors of a folder on a base as a PEFT adapter: base + s * B @ C @ A."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pissa_repro.methods import Parts
from pissa_repro.model import core, factors, keys, patterns
from pissa_repro.model.architecture import CLASSIFICATION, architecture
from pissa_repro.model.base import module_name, stores_transposed
from pissa_repro.model.header import header
from pissa_repro.model.keys import PREFIX
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import LABELS, read_json

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from transformers import PreTrainedModel

READ = {"init_lora_weights", "inference_mode", "auto_mapping"}  # how PEFT reads an adapter, not what it computes


def attach(
    model: "PreTrainedModel", folder: str | Path, lora: dict[str, Any] | None = None, start: str | Path | None = None
) -> "PeftModel":
    """The model with the factors of a folder as a PEFT LoRA adapter, float32, in eval mode.

    lora: more LoraConfig fields (use_dora, lora_dropout, ...). start: of a folder that a training has left, the one
    that it started from, which holds what was not trained; its own factors.json already holds the fields. The modules
    are those of the stored factors, under the model's names for them.
    """
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
    from peft.utils import set_peft_model_state_dict

    tensors, named = _tensors(model, folder, start), read_json(Path(folder) / factors.CONFIG)
    cores = _take_cores(tensors)
    fields = named | (lora or {}) | _module_fields(model, tensors) | _patterns(model, named, folder, start)
    try:
        config = LoraConfig(**{**fields, "init_lora_weights": False, "inference_mode": False})
    except (TypeError, ValueError) as error:
        raise UserError(f"config.methods.<method>.lora: {error}.") from None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*tie_word_embeddings.*")
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to")  # PEFT decides it layer by layer
        wrapped = get_peft_model(model, config)
    starts = all(".lora_A." in key or ".lora_B." in key for key in tensors)
    if starts:  # what else trains (biases, whole modules) starts as it is
        there = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
        tensors |= {key: tensor for key, tensor in there.items() if ".lora_" not in key}
    left: Any = set_peft_model_state_dict(wrapped, tensors)
    if left.unexpected_keys:
        raise UserError(f"{folder}: factors of modules that the model does not have: {left.unexpected_keys[:3]}.")
    core.put(wrapped, cores)
    core.freeze(wrapped, factors.trained_parts(factors.belongs_of(start or folder)))
    if starts:
        _start_variants(wrapped, config)
    return wrapped.eval()


def _tensors(model: "PreTrainedModel", folder: str | Path, start: str | Path | None) -> dict[str, torch.Tensor]:
    """The tensors of a folder under PEFT's keys, with the model's names; laid over those of `start`, if it has one."""
    from safetensors.torch import load_file

    stored = {_adapter_key(model, key): one for key, one in load_file(Path(folder) / factors.FACTORS).items()}
    if start is None:
        return stored
    initial = _tensors(model, start, None)
    for key, free in initial.items():
        other = key.removesuffix(keys.KEYS["free"]) + keys.KEYS["core"]
        if key.endswith(keys.KEYS["free"]) and other in stored:
            stored[other] = core.laid(initial[other], free, stored[other])
    return initial | stored


def _take_cores(tensors: dict[str, torch.Tensor]) -> dict[str, tuple[torch.Tensor, torch.Tensor | None]]:
    """The core of each module and the entries of it that may change, taken out of the tensors."""
    found: dict[str, dict[str, torch.Tensor]] = {"core": {}, "free": {}}
    for key in list(tensors):
        name, part = keys.part_of(key)
        if part in found:
            found[part][name] = tensors.pop(key)
    return {name: (one, found["free"].get(name)) for name, one in found["core"].items()}


def parts(wrapped: "PeftModel") -> dict[str, Parts]:
    """The parts of every module with factors, by the model's name of it (transformers'), as they are in training."""
    found = {}
    for name, layer in core.layers(wrapped):
        a, b = layer.lora_A[core.ADAPTER].weight, layer.lora_B[core.ADAPTER]
        b, c = (b.factor, b.core.weight) if isinstance(b, core.Cored) else (b.weight, None)
        found[name] = Parts(a, b, c, layer.scaling[core.ADAPTER])
    return found


def save_trained(wrapped: "PeftModel", folder: str | Path, start: str | Path) -> None:
    """Write what was trained of a model's only adapter, which began as the factors in the folder `start`."""
    from peft import get_peft_model_state_dict

    config: Any
    (config,) = wrapped.peft_config.values()
    tensors = {key.replace(*core.STATE): tensor for key, tensor in get_peft_model_state_dict(wrapped).items()}
    kind = architecture(wrapped.config)
    fields = _fields(config, start) | {"task_type": kind.task_type}
    if kind is CLASSIFICATION:  # PEFT adds the usual names of heads, there or not
        named = dict.fromkeys(config.modules_to_save)
        fields["modules_to_save"] = [name for name in named if any(f".{name}." in key for key in tensors)]
    factors.save_trained(folder, tensors, fields, start)


def _fields(config: Any, start: str | Path) -> dict[str, Any]:
    """The fields that the start has, and those that are not PEFT's default; none that names a place or an age."""
    from peft import LoraConfig

    values, usual = config.to_dict(), LoraConfig().to_dict()
    named = read_json(Path(start) / factors.CONFIG)
    changed = (key for key in values if values[key] != usual[key] and key not in LABELS | READ)
    fields = {key: sorted(v) if isinstance(v := values[key], set) else v for key in (*named, *changed)}
    return {**fields, "target_modules": sorted(values["target_modules"])}


def _adapter_key(model: "PreTrainedModel", key: str) -> str:
    """PEFT's key of a factor, with the model's name of its module."""
    name, lora, rest = key.removeprefix(PREFIX).partition(".lora_")
    return f"{PREFIX}{module_name(model, name)}{lora}{rest}" if lora else key


def _module_fields(model: "PreTrainedModel", tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    """The fields of LoraConfig that the model decides: its task, which modules get factors, and how these store W."""
    keys = (key.removeprefix(PREFIX).partition(".lora_A.") for key in tensors)
    names = sorted(name for name, is_factor, _ in keys if is_factor)
    transposed = any(stores_transposed(model.get_submodule(n)) for n in names)
    return {
        "task_type": architecture(model.config).task_type,
        "target_modules": names,
        "fan_in_fan_out": transposed,
    }


def _patterns(
    model: "PreTrainedModel", config: dict[str, Any], folder: str | Path, start: str | Path | None
) -> dict[str, Any]:
    """The patterns of rank and alpha under the model's names: ranks as stored, alphas of the folder's config.

    That names modules as its own folder does: as the model's files, or after a training (with a start) as the model.
    """
    ranks, alphas = {}, {}
    for key, tensor in header(Path(start or folder) / factors.FACTORS).items():
        name, part = keys.part_of(key)
        if part == "A":
            place = module_name(model, name)
            ranks[place] = tensor.shape[0]
            alphas[place] = patterns.of_module(config, "alpha", place if start else name)
    return {"rank_pattern": {}, "alpha_pattern": {}} | patterns.patterns(config, ranks, alphas)


def _start_variants(wrapped: "PeftModel", config: "LoraConfig") -> None:
    """Derive anew what PEFT derives from A and B (DoRA's magnitudes): it did so before they were loaded."""
    for module in wrapped.modules():
        for adapter, variant in getattr(module, "lora_variant", {}).items():
            variant.init(module, adapter_name=adapter, config=config)
