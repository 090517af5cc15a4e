"""Whether an adapter on one model gives the logits of another adapter on another model."""

from pathlib import Path
from typing import Any

import torch

from pissa_repro.adapters.folder import find
from pissa_repro.model import checks
from pissa_repro.model.load import default_device
from pissa_repro.model.skeleton import LOCAL, as_user_error
from pissa_repro.runtime.errors import UserError

LIMIT = 1e-4  # |difference| / |logits| in float32: a residual that is stored in float32 gives 1e-6
PROMPTS, LENGTH = 4, 16


def checked(first: tuple[Path, Path], second: tuple[Path, Path]) -> str:
    """A line with the relative difference of two (model, adapter)'s logits. Raises UserError above the limit.

    One model is in memory at a time, float32. The prompts are drawn tokens, the same in every run.
    """
    wanted, found = (_logits(*one) for one in (first, second))
    if wanted.shape != found.shape:
        raise UserError(f"{first[0]} and {second[0]}: their vocabularies differ.")
    difference = checks.relative_difference(found, wanted)
    if not difference <= LIMIT:  # NaN too
        raise UserError(
            f"logits differ by {difference:.1e} (limit {LIMIT}): {first[0]} is not the base of {first[1].name}, "
            f"{second[0]} not that of the result, or the residual was stored in few bits. Nothing was written."
        )
    return f"Checked: its logits are within {difference:.1e} of those before, relative (limit {LIMIT})."


def _logits(model: Path, adapter: Path) -> torch.Tensor:
    """Logits (prompts, vocabulary) of an adapter on a model, which may be a residual (load_base takes no such)."""
    from peft import PeftConfig, PeftModel
    from transformers import AutoModelForCausalLM

    adapter = find(adapter, "ADAPTER")
    config: Any = PeftConfig.from_pretrained(str(adapter))
    config.init_lora_weights = True  # "pissa" would decompose the residual once more
    with as_user_error(model, "model with the adapter"):
        base: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, use_safetensors=True, **LOCAL)
        base.to(default_device())
        wrapped = PeftModel.from_pretrained(base, str(adapter), config=config).eval()
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(wrapped.config.vocab_size, (PROMPTS, LENGTH), generator=generator)
    return checks.logits(wrapped, tokens.tolist())
