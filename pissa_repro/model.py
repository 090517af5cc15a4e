"""Build the model of a cell: base + s * B @ A, for training and for scoring."""

import contextlib
import os
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from pissa_repro import quantize
from pissa_repro.checkpoint import files
from pissa_repro.errors import UserError
from pissa_repro.factors import ADAPTER, CONFIG, Factors
from pissa_repro.record import read_json

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
PEFT_PREFIX = "base_model.model."


def default_device() -> torch.device:
    """The GPU of this process where there is one, else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))  # torchrun numbers its processes


def load_base(folder: str | Path, dtype: str = "float32", device: torch.device | str | None = None) -> torch.nn.Module:
    """The untouched model, on the given device or this process's, its dtype asserted (trap 15).

    Raises UserError for damaged files, for architectures that are no causal language model or need
    code from the hub, and for files without all of the model's weights.
    """
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    files(folder)
    transformers_logging.disable_progress_bar()
    local = {"local_files_only": True, "trust_remote_code": False}  # not set, it would ask on a terminal
    try:
        _refuse_architecture(folder, AutoConfig.from_pretrained(folder, **local))
        model, found = AutoModelForCausalLM.from_pretrained(
            folder, dtype=DTYPES[dtype], use_safetensors=True, output_loading_info=True, **local
        )
    except (ValueError, OSError, RuntimeError) as error:
        raise UserError(f"{folder}: transformers cannot load this model: {error}") from error
    if found["missing_keys"]:  # transformers would start them at random and go on
        raise UserError(
            f"{folder}: {type(model).__name__} needs {min(found['missing_keys'])}, which the files do not hold."
        )
    model.generation_config = _only_tokens(model.generation_config)
    wrong = {name for name, p in model.named_parameters() if p.dtype != DTYPES[dtype]}
    if wrong:
        raise UserError(f"{folder}: asked for {dtype}, but {min(wrong)} came as another dtype.")
    return model.to(device or default_device())


def _only_tokens(given):
    """A model's generation_config.json without its sampling, penalties and lengths: they would change greedy decoding.

    transformers takes them, vLLM does not; some that ship with models cannot even be saved again.
    """
    from transformers import GenerationConfig

    kept = {key: getattr(given, key, None) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return GenerationConfig(**kept)


def _refuse_architecture(folder: str | Path, config) -> None:
    """Raise UserError for what the causal language model trainer cannot train, such as T5."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    if getattr(config, "is_encoder_decoder", False) or type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise UserError(
            f"{folder}: a {config.model_type} model cannot be trained or scored here, only causal language models "
            "(Llama, Mistral, Gemma, Qwen, GPT-2, ...). Initialisation and quantization error work without training."
        )


def load_tokenizer(folder: str | Path):
    """The model's tokenizer, padding on the right; pad is eos where the model has none (paper_facts.md 3.2)."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if tokenizer.eos_token_id is None:
        raise UserError(f"{folder}: the tokenizer has no eos token; training targets end with one.")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    return tokenizer


def window(config: Any, fallback: int) -> int:
    """How many tokens a model of this transformers config can see; `fallback` where it sets no limit."""
    return getattr(config, "max_position_embeddings", None) or fallback


def module_name(model: torch.nn.Module, name: str) -> str:
    """transformers' name of the module that the safetensors call `name`.

    Files may leave out the name of the base model (GPT-2 on the hub: h.0 for transformer.h.0), or
    have it where the class has not. Raises UserError for a module that the model does not have.
    """
    prefix = f"{model.base_model_prefix}."
    for candidate in (name, prefix + name, name.removeprefix(prefix)):
        with contextlib.suppress(AttributeError):
            model.get_submodule(candidate)
            return candidate
    raise UserError(f"{name}: {type(model).__name__} has no such module, with '{prefix}' in front or without.")


def _stores_transposed(layer: torch.nn.Module) -> bool:
    """Whether the layer is transformers' Conv1D, whose weight is (in, out)."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(layer, Conv1D)


def set_base(model: torch.nn.Module, factors: Factors, quant: str, dtype: str, pack: bool) -> None:
    """Replace W by the frozen base, quantize(W - s * offset), in every target module.

    The model comes and stays in float32, as every base is made in float32 (out, in) by quantize.base_weight;
    `cast` rounds it to `dtype` later, which here is what packed weights compute in. pack: keep 4-bit weights
    packed (training); else dequantized (scoring, merging). A Conv1D layer (GPT-2) gets its base transposed and is never packed. Raises UserError for
    a module that the model does not have, or that shares its weight with another.
    """
    uses = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
    for name in factors.A:
        module = module_name(model, name)
        if uses[id(model.get_submodule(module).weight)] > 1:
            raise UserError(f"config.train.target_modules: {name} shares its weight with the embedding; take it out.")
        _set_module(model, module, factors.offset_product(name), quant, DTYPES[dtype], pack)


def cast(parameters: Iterable[torch.nn.Parameter], dtype: str) -> None:
    """Round the parameters to `dtype` in place; packed 4-bit weights are no floating point numbers and stay."""
    for parameter in parameters:
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(DTYPES[dtype])


def _set_module(
    model: torch.nn.Module, name: str, offset: torch.Tensor | None, quant: str, dtype: torch.dtype, pack: bool
) -> None:
    layer = model.get_submodule(name)
    offset = None if offset is None else offset.to(layer.weight.device)
    if _stores_transposed(layer):
        weight = layer.weight.data.t().contiguous()
        layer.weight.data = quantize.base_weight(weight, offset, quant).t().contiguous()
    elif pack and quantize.packable(layer, quant):
        weight = layer.weight.data if offset is None else layer.weight.data - offset
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, quantize.linear4bit(layer, weight, quant, dtype))
    else:
        layer.weight.data = quantize.base_weight(layer.weight.data, offset, quant)


def set_weight(model: torch.nn.Module, name: str, weight: torch.Tensor) -> None:
    """Put a weight (out, in) into the module that the safetensors call `name`."""
    layer = model.get_submodule(module_name(model, name))
    layer.weight.data = (weight.t() if _stores_transposed(layer) else weight).contiguous().to(layer.weight)


def attach(model: torch.nn.Module, folder: str | Path, lora: dict[str, Any] | None = None):
    """The model with the factors of a folder as a PEFT LoRA adapter, float32, in eval mode.

    lora: more LoraConfig fields (use_dora, lora_dropout, ...). Where the folder comes from a
    training, its own adapter_config.json already holds them. The modules are those of the stored
    factors, under the model's names for them.
    """
    from peft import LoraConfig, get_peft_model
    from peft.utils import set_peft_model_state_dict
    from safetensors.torch import load_file

    tensors = {_adapter_key(model, key): tensor for key, tensor in load_file(Path(folder) / ADAPTER).items()}
    fields = read_json(Path(folder) / CONFIG) | (lora or {}) | _module_fields(model, tensors)
    try:
        config = LoraConfig(**{**fields, "init_lora_weights": False, "inference_mode": False})
    except (TypeError, ValueError) as error:
        raise UserError(f"config.methods.<method>.lora: {error}.") from None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*tie_word_embeddings.*")
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to")  # PEFT decides it layer by layer
        wrapped = get_peft_model(model, config)
    left = set_peft_model_state_dict(wrapped, tensors)
    if left.unexpected_keys:
        raise UserError(f"{folder}: factors of modules that the model does not have: {left.unexpected_keys[:3]}.")
    if all(".lora_A." in key or ".lora_B." in key for key in tensors):
        _start_variants(wrapped, config)
    return wrapped.eval()


def _adapter_key(model: torch.nn.Module, key: str) -> str:
    """PEFT's key of a factor, with the model's name of its module."""
    name, lora, rest = key.removeprefix(PEFT_PREFIX).partition(".lora_")
    return f"{PEFT_PREFIX}{module_name(model, name)}{lora}{rest}" if lora else key


def _module_fields(model: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    """The fields of LoraConfig that say which modules the factors belong to and how these store W."""
    keys = (key.removeprefix(PEFT_PREFIX).partition(".lora_A.") for key in tensors)
    names = sorted(name for name, found, _ in keys if found)
    return {"target_modules": names, "fan_in_fan_out": any(_stores_transposed(model.get_submodule(n)) for n in names)}


def _start_variants(wrapped, config) -> None:
    """Start what PEFT derives from A and B (DoRA's magnitudes) anew: it did so before they were loaded."""
    for module in wrapped.modules():
        for adapter, variant in getattr(module, "lora_variant", {}).items():
            variant.init(module, adapter_name=adapter, config=config)


@torch.no_grad()
def logits(model: torch.nn.Module, prompts: list[list[int]]) -> torch.Tensor:
    """Logits (n, vocabulary) float32 on the CPU after each of n prompts (lists of token ids)."""
    rows = [model(input_ids=torch.tensor([ids], device=model.device)).logits[0, -1] for ids in prompts]
    return torch.stack(rows).float().cpu()


def relative_difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """|found - expected| / |expected| (Frobenius)."""
    return ((found - expected).norm() / expected.norm()).item()


def dtypes(model: torch.nn.Module) -> dict[str, list[str]]:
    """The dtypes of the trained and of the frozen parameters, for the record."""
    found: dict[str, set[str]] = {"trained": set(), "frozen": set()}
    for parameter in model.parameters():
        found["trained" if parameter.requires_grad else "frozen"].add(str(parameter.dtype).removeprefix("torch."))
    return {key: sorted(value) for key, value in found.items()}
