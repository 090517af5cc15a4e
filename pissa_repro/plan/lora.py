"""Which fields of PEFT's LoraConfig a method of the config may set, and why it may not set the others.

A field may be set where it takes effect in training, and what is merged and scored is what was trained: a test holds
each to that, and the two lists to the installed PEFT. Imports no PEFT, which would import torch.
"""

import difflib
from typing import Any

from pissa_repro.plan.reading import short
from pissa_repro.runtime.errors import UserError, unknown

# A field, the type of its value (made without arguments it is PEFT's default), and what the field does here.
ALLOWED: dict[str, tuple[type, str]] = {
    "use_dora": (bool, "DoRA (arXiv 2402.09353): the magnitude of each output trains beside A and B, and is merged"),
}

FACTORS_ONLY = "what is trained, merged and scored is the factors A and B"
RANDOM_LOSS = "its noise is drawn anew when a training resumes, and its loss terms are not part of the training"

# A field, and what decides it instead or why it cannot be set. A second place for what a cell's name or its start
# says would train another cell under that name, or be ignored.
REFUSED = {
    **dict.fromkeys(("r", "rank_pattern"), "config.sweep.ranks decides it"),
    **dict.fromkeys(("lora_alpha", "alpha_pattern"), "config.train.alpha decides it"),
    **dict.fromkeys(
        ("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
        "config.train.target_modules decides it",
    ),
    "use_rslora": "config.train.rslora decides it",
    "lora_dropout": "config.train.dropout decides it",
    **dict.fromkeys(
        ("init_lora_weights", "loftq_config", "eva_config", "corda_config", "lora_ga_config"), "'init' decides it"
    ),
    **dict.fromkeys(("modules_to_save", "lora_bias", "bias", "trainable_token_indices"), FACTORS_ONLY),
    "ensure_weight_tying": f"it acts on modules_to_save and tied embeddings, and {FACTORS_ONLY}",
    "target_parameters": f"it puts factors on parameters that have no start, and {FACTORS_ONLY}",
    "use_bdlora": "its factors are blocks, not the A and B of the start",
    "arrow_config": "it routes between several trained adapters, and a cell has one",
    "kasa_config": "it changes the base, and the start belongs to the base as it is",
    "monteclora_config": RANDOM_LOSS,
    "velora_config": "its gradients depend on the micro-batch, and on 4-bit bases PEFT rounds what it keeps to zero",
    "alora_invocation_tokens": "it adapts a part of the tokens, which cannot be merged",
    "layer_replication": "it makes another model, which is not the one that is merged and scored",
    "fan_in_fan_out": "the layer decides it",
    **dict.fromkeys(("use_qalora", "qalora_group_size"), "PEFT has it for GPTQ layers only; here it would do nothing"),
    **dict.fromkeys(("megatron_config", "megatron_core"), "Megatron's layers are not used"),
    "runtime_config": "it says how PEFT computes a start, and the start is there already",
    **dict.fromkeys(("task_type", "inference_mode", "peft_type", "auto_mapping"), "the training decides it"),
    **dict.fromkeys(
        ("base_model_name_or_path", "revision", "peft_version"), "it is written into the adapter by itself"
    ),
}


def acting(given: dict[str, Any], place: str) -> dict[str, Any]:
    """The given fields, without those that are PEFT's default: they are the same method.

    Raises UserError for a field that may not be set, with the reason, and for a value of another type.
    """
    for key, value in given.items():
        if key in REFUSED:
            raise UserError(f"{place}: '{key}' is not set here: {REFUSED[key]}. Choices: {', '.join(ALLOWED)}.")
        if key not in ALLOWED:
            near = difflib.get_close_matches(key, [*ALLOWED, *REFUSED], n=1)
            instead = f" For '{near[0]}': {REFUSED[near[0]]}." if near and near[0] in REFUSED else ""
            raise UserError(f"{unknown('LoraConfig field', key, ALLOWED, place)}{instead}")
        kind, _ = ALLOWED[key]
        if not isinstance(value, kind):
            raise UserError(f"{place}: '{key}' is {short(value)}; it must be a {kind.__name__}.")
    return {key: value for key, value in given.items() if value != ALLOWED[key][0]()}
