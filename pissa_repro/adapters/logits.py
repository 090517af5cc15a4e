"""Whether an adapter on one model gives the logits of another adapter on another model."""

from pathlib import Path

import torch

from pissa_repro.model import checks
from pissa_repro.model.load import load_base
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
    from peft import PeftConfig, PeftModel

    from pissa_repro.adapters.folder import find

    base, adapter = load_base(model), find(adapter, "ADAPTER")
    config = PeftConfig.from_pretrained(str(adapter))
    config.init_lora_weights = True  # "pissa" would decompose the residual once more
    wrapped = PeftModel.from_pretrained(base, str(adapter), config=config).eval()
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(wrapped.config.vocab_size, (PROMPTS, LENGTH), generator=generator)
    return checks.logits(wrapped, tokens.tolist())
