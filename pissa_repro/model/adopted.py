"""An adapter that was trained elsewhere, put on its base by PEFT, key by key, and merged.

Its folder holds one of two things. A plain adapter on the untouched base, as PEFT writes it; or, where the base was
quantized after a start was taken out of it, the adapter and that start under names of ours, so that no other reader
loads it on another base: the model is quantize(W - s B0 A0) + s B A.
"""

import warnings
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from pissa_repro.model import checkpoint, checks
from pissa_repro.model.base import quantize
from pissa_repro.model.peft_words import FROZEN, PLAIN, Files, done
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import read_json

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from transformers import PreTrainedModel

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
RAW, START = (Files(f"{name}.safetensors", f"{name}.json") for name in ("adapter", "start"))


def lora_config(given: Mapping[str, Any], place: str) -> "LoraConfig":
    """The LoraConfig of a stored one, for loading. Raises UserError for a setting that this PEFT does not know."""
    from peft import LoraConfig

    known = {field.name for field in fields(LoraConfig)}
    for key, value in given.items():
        if key not in known and value:
            raise UserError(f"{place}: '{key}' is set, which this PEFT does not know. A newer one has written it.")
    kept = {key: value for key, value in done(given).items() if key in known}
    try:
        return LoraConfig(**{**kept, "inference_mode": False})
    except (TypeError, ValueError) as error:
        raise UserError(f"{place}: {error}") from None


def refuse_misfit(
    model: "PreTrainedModel", files: tuple[Path, Mapping[str, Any]], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Raise UserError unless an adapter has the very tensors that PEFT makes for its config on this model.

    files: the adapter's folder, for messages, and its config; shapes: of its tensors, by key. model: on the meta
    device; it is changed. PEFT itself only warns of what is missing, and loads what is left.
    """
    folder, config = files
    refuse_other_tensors(wrap(model, lora_config(config, str(folder)), folder), folder, shapes)


def refuse_other_tensors(wrapped: "PeftModel", folder: Path, shapes: Shapes) -> None:
    """The same of a model that PEFT has put the adapter's layers on."""
    from peft.utils import get_peft_model_state_dict

    model: Any = wrapped.get_base_model()
    made = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    base = dict(model.named_parameters(remove_duplicate=False))  # a tied head has its weight by its own name too
    wanted = {key: tuple(tensor.shape) for key, tensor in made.items()}
    for key in sorted(shapes.keys() - wanted.keys()):
        name = key.removeprefix("base_model.model.")
        if not key.endswith(FROZEN) or name not in base:
            raise UserError(
                f"{folder}: holds {key}, which {type(model).__name__} has no place for. Is the base "
                "another model, or was its vocabulary enlarged?"
            )
        wanted[key] = tuple(base[name].shape)
    if missing := sorted(wanted.keys() - shapes.keys()):
        raise UserError(
            f"{folder}: lacks {missing[0]} ({len(missing)} such tensors), which its config has on this base."
        )
    for key, shape in shapes.items():
        if shape != wanted[key]:
            raise UserError(
                f"{folder}: {key} is {shape}, the base needs {wanted[key]}. It is of a model of another size."
            )


def wrap(model: "PreTrainedModel", config: "LoraConfig", place: Path) -> "PeftModel":
    """The model with PEFT's layers of this config, empty where it is on the meta device."""
    from peft import get_peft_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tied weights, Conv1D layers and renamed bases, which PEFT handles
        try:
            return get_peft_model(model, config, low_cpu_mem_usage=model.device.type == "meta")
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"{place}: PEFT cannot put it on {type(model).__name__}: {error}") from None


def put_on(model: "PreTrainedModel", folder: Path, files: Files) -> "PeftModel":
    """The model with a stored adapter that `refuse_misfit` has let pass; float32, in eval mode."""
    from peft.utils import set_peft_model_state_dict
    from safetensors.torch import load_file

    tensors = {key: t for key, t in load_file(folder / files.weights).items() if not key.endswith(FROZEN)}
    wrapped = wrap(model, lora_config(read_json(folder / files.config), str(folder / files.config)), folder)
    left: Any = set_peft_model_state_dict(wrapped, tensors)
    if left.unexpected_keys:
        raise UserError(f"{folder}: holds {left.unexpected_keys[0]}, which {type(model).__name__} has no place for.")
    return wrapped.eval()


def adopted(
    base: "PreTrainedModel", place: str | Path, folder: Path, quant: str, prompts: list[list[int]]
) -> tuple["PeftModel", torch.Tensor]:
    """The adapter in `folder` on its base, and the logits (n, vocabulary) after n prompts before its training.

    base, place: the untouched model, float32, and its folder. Every projection of the layers is quantized, with
    factors or not, as bitsandbytes does.
    """
    whole, before = (folder / START.config).is_file(), None
    if whole:
        take_out(base, folder)
    if quant != "none":
        quantize(base, checkpoint.weights(place, checkpoint.projections(place)), quant)
    if whole:
        started = put_on(base, folder, START)
        before = checks.logits(started, prompts)
        base = started.unload()
    else:
        before = checks.logits(base, prompts)
    return put_on(base, folder, RAW if whole else PLAIN), before


def take_out(model: "PreTrainedModel", folder: Path) -> None:
    """Make the residual of a model: W - s B0 A0 in every module of the start in `folder`."""
    from peft.tuners.lora import LoraLayer

    wrapped = put_on(model, folder, START)
    layers: list[Any] = [layer for layer in wrapped.modules() if isinstance(layer, LoraLayer)]
    for layer in layers:
        layer.get_base_layer().weight.data -= layer.get_delta_weight("default").detach()
    wrapped.unload()
