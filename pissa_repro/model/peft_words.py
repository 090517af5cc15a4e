"""PEFT's words: how it names its files, the keys in them and the fields of a LoraConfig. Imports no torch."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Files(NamedTuple):
    """The names of an adapter's two files."""

    weights: str
    config: str


PLAIN = Files("adapter_model.safetensors", "adapter_config.json")
FROZEN = ".base_layer.weight"  # ends the key of a weight of the base: of an embedding or lm_head that has factors
ALL_LINEAR = "all-linear"  # as target_modules: every linear layer but the output layer
PATTERNS = ("rank_pattern", "alpha_pattern")
ONLY_FACTORS: dict[str, Any] = {  # nothing is trained or stored beside A and B
    "use_dora": False, "bias": "none", "lora_bias": False, "modules_to_save": None, "trainable_token_indices": None,
}  # fmt: skip
DONE: dict[str, Any] = {"init_lora_weights": True, "loftq_config": {}}  # a reader only loads
_MADE_BY = ("corda_config", "eva_config", "lora_ga_config")  # how a start is made; some name files


def done(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config of an adapter that is only loaded: its start was made, and nothing decomposes the base once more."""
    return {key: value for key, value in config.items() if key not in _MADE_BY} | DONE
