"""A trained cell's model with its factors merged: what is scored, and the checks that it is what was trained."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record_types import ModelRecord
from pissa_repro.runtime.specs import AdoptSpec, BaseSpec, TrainSpec

if TYPE_CHECKING:
    import torch

MERGED = 1e-3  # |logits(merged) - logits(trained)| / |logits(trained)| allowed


class TrainedCell(NamedTuple):
    """A trained cell: its train spec, the folder of its initial factors (None without), and what training wrote.

    Of one that was trained elsewhere: the spec of adopting it, no start, and the adapter's folder. Of the base as it
    is: its spec, no start, and a folder that holds nothing of it.
    """

    spec: TrainSpec | AdoptSpec | BaseSpec
    init: Path | None
    trained: Path


class Merged(NamedTuple):
    """The model to score, what the checks found, and logits (n, vocabulary) after their prompts.

    model: transformers', whose `to` has no types. untrained: the same logits before the training.
    """

    model: Any
    checks: dict[str, float]
    logits: "torch.Tensor"
    untrained: "torch.Tensor"

    def save(self, folder: str | Path, dtype: str) -> None:
        """Write the model into a folder in a dtype, which it then has in memory, too."""
        from pissa_repro.model.load import DTYPES

        self.model.to(DTYPES[dtype]).save_pretrained(folder)


def merged_model(
    cell: TrainedCell, stored: ModelRecord, prompts: list[list[int]], device: "torch.device | str | None" = None
) -> Merged:
    """The cell with its factors merged, float32, on this process's device or the given one.

    Merging is in float32 whatever the training's dtype was: the base has the very values that were
    trained on, and an update smaller than bfloat16 can hold is not rounded away. Checks:
    training_effect, how far the logits are from those at the start of the training; merge_error, how
    far merging moves them. Raises UserError when training changed nothing (where there was any), or when the merge
    changed the logits (pitfalls 20, 24, docs/pitfalls.md).
    """
    from pissa_repro.model import checks as model_checks
    from pissa_repro.model import classes, factors
    from pissa_repro.model.adapter import attach
    from pissa_repro.model.adopted import adopted
    from pissa_repro.model.base import cast, set_base
    from pissa_repro.model.load import load_base

    spec, init, trained = cell
    train: Any = spec
    head = classes.head_of(trained, train)
    base = load_base(stored["path"], device=device, head=head)
    if spec["stage"] == "adopt":
        wrapped, before = adopted(base, stored["path"], trained, spec["quant"], prompts)
        after = model_checks.logits(wrapped, prompts)
        model = wrapped.merge_and_unload()
        merged = model_checks.logits(model, prompts)
    elif spec["stage"] == "base":
        model = untrained(base, stored["path"], train)
        before = after = merged = model_checks.logits(model, prompts)
    elif train["init"] is None:
        before = model_checks.logits(base, prompts)
        del base
        model = load_base(trained, device=device, head=head)
        after = merged = model_checks.logits(model, prompts)
    elif init is None:
        raise UserError(f"{trained}: the folder of the factors that it was trained from is not given (--init).")
    else:
        set_base(base, factors.load(init, stored), train["quant"], train["settings"]["dtype"], pack=False)
        cast(base.parameters(), train["settings"]["dtype"])
        lora = classes.in_training(base, train["lora"]) if head else train["lora"]
        adapter = attach(base.float(), init, lora)
        before = model_checks.logits(adapter, prompts)
        wrapped = attach(adapter.unload(), factors.trained_factors(trained), start=init)
        after = model_checks.logits(wrapped, prompts)
        model = wrapped.merge_and_unload()
        merged = model_checks.logits(model, prompts)
    return Merged(model.eval(), checked(cell, before, after, merged), merged, before)


def checked(
    cell: TrainedCell, before: "torch.Tensor", after: "torch.Tensor", merged: "torch.Tensor"
) -> dict[str, float]:
    """How far the training, and the merge, have moved the logits. Raises UserError as merged_model."""
    from pissa_repro.model.checks import relative_difference

    effect, error = relative_difference(after, before), 0.0 if merged is after else relative_difference(merged, after)
    if not effect > 0 and not (effect == 0 and cell.spec["stage"] == "base"):  # NaN too
        raise UserError(f"{cell.trained}: the trained weights do not change the model's output, or make it NaN.")
    if not error <= MERGED:
        raise UserError(f"{cell.trained}: merging changes the logits by {error:.1e} (limit {MERGED}).")
    return {"training_effect": effect, "merge_error": error}


def untrained(base: Any, place: str | Path, spec: Mapping[str, Any]) -> Any:
    """The base that cells train on, before any of them: quantized where they have factors, rounded to their dtype.

    base: the model from the folder `place`, float32, as it is given back. spec: a BaseSpec.
    """
    from pissa_repro.model import base as bases
    from pissa_repro.model import targets

    if spec["quant"] != "none":
        bases.quantize(base, targets.chosen(place, spec), spec["quant"])  # type: ignore[arg-type]  # it holds Targets
    bases.cast(base.parameters(), spec["dtype"])
    return base.float()
