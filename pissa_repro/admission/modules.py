"""The modules that get factors: known from the files' headers and from the model without its weights."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from pissa_repro.model import checkpoint, naming, targets
from pissa_repro.model.base import module_name, stores_transposed, uses
from pissa_repro.runtime.admit_specs import AdmitTargets
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.specs import Targets, TrainedWhole
from pissa_repro.starts.make import check_ranks

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Shape = tuple[int, int]


def measured(folder: str | Path, wanted: AdmitTargets) -> dict[str, Shape]:
    """The shape (out, in) of every target module, by the files' names; from headers. Checks the ranks.

    Raises UserError for a target that the files do not have, and for a rank above a weight's smaller side.
    """
    named: Targets = {"target_modules": wanted["modules"] or checkpoint.projections(folder)}
    if "lora" in wanted:
        named["lora"] = wanted["lora"]
    modules = targets.chosen(folder, named)
    shapes = checkpoint.shapes(folder, list(modules))
    for name, own in modules.items():
        check_ranks({name: shapes[name]}, [own["rank"]] if "rank" in own else wanted["ranks"])
    return shapes


def refuse_untrainable(folder: str | Path, shapes: dict[str, Shape], model: "PreTrainedModel") -> None:
    """Raise UserError, with the targets that can be trained, where a module is no linear layer of the model."""
    refused = _refused(shapes, model)
    if not refused:
        return
    name, reason = next(iter(refused.items()))
    known = checkpoint.shapes(folder, checkpoint.projections(folder))
    good = sorted(known.keys() - _refused(known, model).keys())
    raise UserError(
        f"{checkpoint.TARGETS}: {name} {reason}. It is one of {len(refused)} such modules of {len(shapes)} that the "
        f"targets name. Choices: {', '.join(naming.suffixes(good, known.keys() - set(good))) or '(none)'}."
    )


def refuse_whole(folder: str | Path, names: Iterable[str], whole: TrainedWhole, model: "PreTrainedModel") -> None:
    """Raise UserError where parameters that shall train beside the factors of these modules are not there, or shared.

    names: of the modules with factors, by the files. As PEFT finds them: a module whose name ends so, every bias.
    """
    place, counts = "config.methods.<method>.lora", uses(model)
    modules = {module_name(model, name) for name in names}
    for ending in whole.get("modules_to_save", ()):
        found = {name: module for name, module in model.named_modules() if name and name.endswith(ending)}
        trained = [parameter for module in found.values() for parameter in module.parameters()]
        if not trained:
            reason = f"no module of {folder} with parameters ends so"
        elif any(counts[id(parameter)] > 1 for parameter in trained):
            reason = "its weight is also the embedding's or the head's, and one of the two would train"
        elif both := [name for name in modules if f".{name}".find(f".{ending}.") >= 0 or name.endswith(ending)]:
            reason = f"{both[0]} gets factors, and cannot train whole as well. Take it out of the target modules"
        else:
            continue
        raise UserError(f"{place}.modules_to_save: '{ending}': {reason}.")
    of_targets = (f"{name}.bias" for name in modules)
    biases = {name for name, _ in model.named_parameters() if name.endswith(".bias")}
    there = {"all": biases, "lora_only": biases.intersection(of_targets)}
    if "bias" in whole and not there[whole["bias"]]:
        raise UserError(f"{place}.bias: {folder} has no bias that '{whole['bias']}' would train. Leave it out.")


def _refused(names: Iterable[str], model: "PreTrainedModel") -> dict[str, str]:
    """Why modules cannot get factors, of those that cannot."""
    counts = uses(model)
    reasons = {name: _reason(name, model, counts) for name in names}
    return {name: reason for name, reason in reasons.items() if reason}


def _reason(name: str, model: "PreTrainedModel", counts: dict[int, int]) -> str | None:
    try:
        layer = model.get_submodule(module_name(model, name))
    except UserError:
        stacked = " (it keeps the experts of a layer as one stack)" if stacks(model) else ""
        return f"is in the files, but {type(model).__name__} has no such module{stacked}"
    if not _is_linear(layer):
        return f"is a {type(layer).__name__}, and only linear layers can get factors"
    if layer is model.get_output_embeddings() and counts[id(layer.weight)] == 1:
        return "is the output layer: the loss of a training may be computed from its weight, past any factors"
    return "shares its weight with the embedding" if counts[id(layer.weight)] > 1 else None


def _is_linear(layer: torch.nn.Module) -> bool:
    """Whether it maps a vector to a vector and no more: routers of experts return choices beside."""
    if stores_transposed(layer):
        return True
    if not isinstance(layer, torch.nn.Linear):
        return False
    try:
        made = layer(torch.empty(1, 2, layer.in_features, device="meta", dtype=layer.weight.dtype))
    except (RuntimeError, ValueError, TypeError):
        return False
    return isinstance(made, torch.Tensor) and made.shape == (1, 2, layer.out_features)


def stacks(model: "PreTrainedModel") -> dict[str, tuple[int, ...]]:
    """The experts that are kept as one parameter: {last components of the name: shape}. Factors are for matrices."""
    return {
        ".".join(name.split(".")[-3:]): tuple(parameter.shape)
        for name, parameter in model.named_parameters()
        if parameter.ndim == 3 and naming.is_numbered(name)
    }
