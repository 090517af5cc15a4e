"""Load a base model: what every cell starts from."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pissa_repro.model.checkpoint import files
from pissa_repro.runtime.errors import UserError

if TYPE_CHECKING:
    from transformers import GenerationConfig, PretrainedConfig, PreTrainedModel

# For every from_pretrained of a tokenizer, config or model: not set, transformers asks on a terminal and runs code.
LOCAL = {"local_files_only": True, "trust_remote_code": False}
OTHER_PARTS = re.compile("text|vision|image|vq|audio")  # how configs call the models that a multimodal one is made of
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def default_device() -> torch.device:
    """The GPU of this process where there is one, else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))  # torchrun numbers its processes


def load_base(
    folder: str | Path, dtype: str = "float32", device: torch.device | str | None = None
) -> "PreTrainedModel":
    """The untouched model, on the given device or this process's, its dtype asserted (pitfall 15, docs/pitfalls.md).

    Raises UserError for damaged files, for architectures that are no causal language model or need
    code from the hub, and for files without all of the model's weights.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    files(folder)
    transformers_logging.disable_progress_bar()
    causal_config(folder)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=DTYPES[dtype], use_safetensors=True, output_loading_info=True, **LOCAL
        )
    except (ValueError, OSError, RuntimeError) as error:
        raise UserError(f"{folder}: transformers cannot load this model: {error}") from error
    model, report = loaded
    if missing := report["missing_keys"]:  # transformers would start them at random and go on
        raise UserError(f"{folder}: {type(model).__name__} needs {min(missing)}, which the files do not hold.")
    model.generation_config = _only_tokens(model.generation_config)
    wrong = {name for name, p in model.named_parameters() if p.dtype != DTYPES[dtype]}
    if wrong:
        raise UserError(f"{folder}: asked for {dtype}, but {min(wrong)} came as another dtype.")
    return model.to(device or default_device())


def _only_tokens(given: "GenerationConfig | None") -> "GenerationConfig":
    """A model's generation_config.json without its sampling, penalties and lengths: they would change greedy decoding.

    transformers takes them, vLLM does not; some that ship with models cannot even be saved again.
    """
    from transformers import GenerationConfig

    kept = {key: getattr(given, key, None) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return GenerationConfig(**kept)


def causal_config(folder: str | Path) -> "PretrainedConfig":
    """The config of a causal language model's folder. Raises UserError where it is none, or cannot be read."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, **LOCAL)
    except (ValueError, OSError, RuntimeError) as error:
        raise UserError(f"{folder}: transformers cannot load this model: {error}") from error
    if reason := _other_architecture(config):
        raise UserError(
            f"{folder}: a {config.model_type} model cannot be trained or scored here: {reason}. Choices: causal "
            "language models of text (Llama, Mistral, Gemma, Qwen, GPT-2, ...). Initialisation and quantization error "
            "work without training."
        )
    return config


def _other_architecture(config: "PretrainedConfig") -> str | None:
    """Why a config is no text-only causal language model of attention, if it is none."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

    if getattr(config, "is_encoder_decoder", False):
        return "it has an encoder and a decoder"
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return "it is no causal language model"
    if parts := [name for name in config.sub_configs if OTHER_PARTS.match(name)]:
        return f"it is put together of several models ({', '.join(parts)})"
    if type(config) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", True):  # BERT and its kin
        return "its tokens see those that follow (is_decoder is false in config.json)"
    # Fast kernels of such models read weights past the factors on them.
    if getattr(MODEL_FOR_CAUSAL_LM_MAPPING[type(config)], "_is_stateful", False):
        return "it keeps a running state (Mamba and its kin), where factors and padded batches are not tested"
    return None


def window(config: Any, fallback: int) -> int:
    """How many tokens a model of this transformers config can see; `fallback` where it sets no limit."""
    return getattr(config, "max_position_embeddings", None) or fallback


def check_length(max_length: int, config: Any) -> None:
    """Raise UserError for training examples that are longer than a model of this config can see."""
    limit = window(config, max_length)
    if max_length > limit:
        raise UserError(f"config.train.max_length: {max_length} tokens, the model sees {limit}.")
