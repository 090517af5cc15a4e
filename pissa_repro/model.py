"""Build the model of a cell: base + s * B @ A, for training and for scoring."""

import os
import warnings
from pathlib import Path
from typing import Any

import torch

from pissa_repro import quantize
from pissa_repro.checkpoint import files
from pissa_repro.errors import UserError
from pissa_repro.factors import ADAPTER, CONFIG, Factors
from pissa_repro.record import read_json

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def device() -> torch.device:
    """The GPU of this process where there is one, else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))  # torchrun numbers its processes


def load_base(folder: str | Path, dtype: str = "float32") -> torch.nn.Module:
    """The untouched model, on this process's device, its dtype asserted (trap 15).

    Raises UserError for damaged files and for architectures that need code from the hub.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    files(folder)
    transformers_logging.disable_progress_bar()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=DTYPES[dtype], local_files_only=True, use_safetensors=True
        )
    except (ValueError, OSError, RuntimeError) as error:
        raise UserError(f"{folder}: transformers cannot load this model: {error}") from error
    wrong = {name for name, p in model.named_parameters() if p.dtype != DTYPES[dtype]}
    if wrong:
        raise UserError(f"{folder}: asked for {dtype}, but {min(wrong)} came as another dtype.")
    return model.to(device())


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


def window(model: torch.nn.Module, fallback: int) -> int:
    """How many tokens the model can see."""
    return getattr(model.config, "max_position_embeddings", None) or fallback


def set_base(model: torch.nn.Module, factors: Factors, quant: str, dtype: str, pack: bool) -> None:
    """Replace W by the frozen base, quantize(W - s * offset), in every target module.

    The model comes in float32; every base is made in float32 by quantize.base_weight, and only then
    cast to `dtype`. pack: keep 4-bit weights packed (training); else dequantized (scoring, merging).
    """
    for name in factors.A:
        try:
            linear = model.get_submodule(name)
        except AttributeError:
            raise UserError(f"{name}: in the safetensors, but transformers names its modules otherwise.") from None
        offset = factors.offset_product(name)
        offset = None if offset is None else offset.to(linear.weight.device)
        if pack and quant == "nf4" and quantize.packable(linear):
            weight = linear.weight.data if offset is None else linear.weight.data - offset
            packed = quantize.linear4bit(linear, weight, DTYPES[dtype])
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, packed)
        else:
            linear.weight.data = quantize.base_weight(linear.weight.data, offset, quant)
    if dtype != "float32":
        for parameter in model.parameters():
            if parameter.is_floating_point():
                parameter.data = parameter.data.to(DTYPES[dtype])


def attach(model: torch.nn.Module, folder: str | Path, lora: dict[str, Any] | None = None):
    """The model with the factors of a folder as a PEFT LoRA adapter, float32, in eval mode.

    lora: more LoraConfig fields (use_dora, lora_dropout, ...). Where the folder comes from a
    training, its own adapter_config.json already holds them.
    """
    from peft import LoraConfig, get_peft_model
    from peft.utils import set_peft_model_state_dict
    from safetensors.torch import load_file

    fields = read_json(Path(folder) / CONFIG) | (lora or {})
    try:
        config = LoraConfig(**{**fields, "init_lora_weights": False, "inference_mode": False})
    except (TypeError, ValueError) as error:
        raise UserError(f"config.methods.<method>.lora: {error}.") from None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*tie_word_embeddings.*")
        wrapped = get_peft_model(model, config)
    tensors = load_file(Path(folder) / ADAPTER)
    left = set_peft_model_state_dict(wrapped, tensors)
    if left.unexpected_keys:
        raise UserError(f"{folder}: factors of modules that the model does not have: {left.unexpected_keys[:3]}.")
    if all(".lora_A." in key or ".lora_B." in key for key in tensors):
        _start_variants(wrapped, config)
    return wrapped.eval()


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
