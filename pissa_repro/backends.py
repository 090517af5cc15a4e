"""What generates: lm-eval language models by the name that the config uses."""

from collections.abc import Callable
from typing import Any


def hf(model, tokenizer, batch_size: int):
    """transformers' generate, on the model in memory; prompts are tokenized as in training."""
    from lm_eval.models.huggingface import HFLM

    longest = model.config.max_position_embeddings
    return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, max_length=longest)


BACKENDS: dict[str, Callable[..., Any]] = {"hf": hf}
