"""Whether an adapter on one model gives the logits of another adapter on another model."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from pissa_repro.adapters.card import NO_HEAD
from pissa_repro.adapters.folder import ADAPTER, find
from pissa_repro.model import classes
from pissa_repro.model.adopted import refuse_other_tensors
from pissa_repro.model.architecture import CLASSIFICATION
from pissa_repro.model.checks import logits, relative_difference
from pissa_repro.model.header import header
from pissa_repro.model.load import default_device
from pissa_repro.model.skeleton import LOCAL, as_user_error, folder_architecture
from pissa_repro.runtime.errors import UserError

LIMIT = 1e-4  # |difference| / |logits| in float32: a residual that is stored in float32 gives 1e-6
PROMPTS, LENGTH = 4, 16


def checked(first: tuple[Path, Path], second: tuple[Path, Path]) -> str:
    """A line with the relative difference of two (model, adapter)'s logits. Raises UserError above the limit.

    One model is in memory at a time, float32. The prompts are drawn tokens, the same in every run.
    """
    sizes = [vocabulary(model) for model, _ in (first, second)]
    if sizes[0] != sizes[1]:
        raise UserError(f"{first[0]} and {second[0]}: their vocabularies differ.")
    wanted, found = (of(*one, prompts(first[0])) for one in (first, second))
    why = (
        f"{first[0]} is not the base of {first[1].name}, {second[0]} not that of the result, or the residual was "
        "stored in few bits"
    )
    return _within(wanted, found, "those before", why)


def _within(wanted: torch.Tensor, found: torch.Tensor, whose: str, why: str) -> str:
    difference = relative_difference(found, wanted)
    if not difference <= LIMIT:  # NaN too
        raise UserError(f"logits differ by {difference:.1e} (limit {LIMIT}): {why}. Nothing was written.")
    return f"Checked: its logits are within {difference:.1e} of {whose}, relative (limit {LIMIT})."


def vocabulary(model: str | Path) -> int:
    """How many tokens a model's folder has."""
    from transformers import AutoConfig

    with as_user_error(model):
        return int(AutoConfig.from_pretrained(model, **LOCAL).get_text_config().vocab_size)


def prompts(model: str | Path) -> list[list[int]]:
    """Prompts of drawn tokens for the model of a folder."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(vocabulary(model), (PROMPTS, LENGTH), generator=generator).tolist()


def of(model: Path, adapter: Path | None, asked: list[list[int]]) -> torch.Tensor:
    """Logits (prompts, vocabulary), float32, of a folder's model, with an adapter or without, as PEFT loads it."""
    return logits(load(model, adapter), asked)


def load(model: Path, adapter: Path | None) -> Any:
    """A folder's model, with an adapter or without, as transformers and PEFT load them, float32 and in eval mode.

    Raises UserError for what they cannot load, and for factors of other modules than the model's.
    """
    if adapter is None:
        return _made(model, lambda base: base)
    return _made(model, lambda base: _loaded(base, adapter), classes.loading(adapter))


def checked_on(base: Path, put_on: Callable[[Any], Any], result: Path) -> str:
    """As `checked`, of a model that `put_on` makes of the base, and of the base with a folder that PEFT loads."""
    wanted = logits(_made(base, put_on), prompts(base))
    found = of(base, result, prompts(base))
    why = "the base holds the modules in another order (dare_*)"
    return _within(wanted, found, f"PEFT's own on {base.name}", why)


def _made(model: Path, make: Callable[[Any], Any], head: Mapping[str, int] = NO_HEAD) -> Any:
    """What is made of a folder's model, which may be a residual: load_base does not take such.

    head: of an adapter for classes, which brings the trained one; the model's own may be missing.
    """
    auto = (CLASSIFICATION if head else folder_architecture(model)).auto()
    with as_user_error(model, "model with the adapter"):
        base: Any = auto.from_pretrained(model, dtype=torch.float32, use_safetensors=True, **head, **LOCAL)
        return make(base.to(default_device())).eval()


def _loaded(base: Any, adapter: Path) -> Any:
    from peft import PeftConfig, PeftModel

    folder = find(adapter, "ADAPTER")
    config: Any = PeftConfig.from_pretrained(str(folder))
    config.init_lora_weights = True  # "pissa" would decompose the residual once more
    loaded = PeftModel.from_pretrained(base, str(folder), config=config)
    stored = header(folder / ADAPTER)
    refuse_other_tensors(loaded, folder, {key: one.shape for key, one in stored.items()})  # PEFT starts them anew
    return loaded
