"""Whether an adapter on one model gives the logits of another adapter on another model."""

from collections.abc import Callable
from functools import partial
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
    wanted, found = (_logits(model, partial(_loaded, adapter=adapter)) for model, adapter in (first, second))
    if wanted.shape != found.shape:
        raise UserError(f"{first[0]} and {second[0]}: their vocabularies differ.")
    why = (
        f"{first[0]} is not the base of {first[1].name}, {second[0]} not that of the result, or the residual was "
        "stored in few bits"
    )
    return _within(wanted, found, "those before", why)


def checked_on(base: Path, put_on: Callable[[Any], Any], result: Path) -> str:
    """The same of a model that `put_on` makes of the base, and of the base with a folder that PEFT loads."""
    wanted, found = (_logits(base, make) for make in (put_on, partial(_loaded, adapter=result)))
    return _within(wanted, found, "PEFT's own on this base", "the base holds the modules in another order (dare_*)")


def _within(wanted: torch.Tensor, found: torch.Tensor, whose: str, why: str) -> str:
    difference = checks.relative_difference(found, wanted)
    if not difference <= LIMIT:  # NaN too
        raise UserError(f"logits differ by {difference:.1e} (limit {LIMIT}): {why}. Nothing was written.")
    return f"Checked: its logits are within {difference:.1e} of {whose}, relative (limit {LIMIT})."


def _logits(model: Path, make: Callable[[Any], Any]) -> torch.Tensor:
    """Logits (prompts, vocabulary) of what is made of a model, which may be a residual (load_base takes no such)."""
    from transformers import AutoModelForCausalLM

    with as_user_error(model, "model with the adapter"):
        base: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, use_safetensors=True, **LOCAL)
        wrapped = make(base.to(default_device())).eval()
        generator = torch.Generator().manual_seed(0)
        tokens = torch.randint(base.config.vocab_size, (PROMPTS, LENGTH), generator=generator)
        return checks.logits(wrapped, tokens.tolist())


def _loaded(base: Any, adapter: Path) -> Any:
    """The model with a folder's adapter, as PEFT loads it."""
    from peft import PeftConfig, PeftModel

    folder = find(adapter, "ADAPTER")
    config: Any = PeftConfig.from_pretrained(str(folder))
    config.init_lora_weights = True  # "pissa" would decompose the residual once more
    return PeftModel.from_pretrained(base, str(folder), config=config)
