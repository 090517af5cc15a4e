"""How far a training has moved the weights: |dW| / |W| of each target module, from the model that was trained."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pissa_repro import quantizers
from pissa_repro.linalg.gram import frobenius
from pissa_repro.model import checkpoint, core, factors
from pissa_repro.model.base import module_name, stores_transposed
from pissa_repro.model.naming import counterparts, is_numbered
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record_types import ModelRecord

if TYPE_CHECKING:
    from peft import PeftModel


def mean_update(model: Any, stored: ModelRecord, quant: str, start: Path | None) -> float | None:
    """The mean over modules of |W after the training - W at its start| / |W|, Frobenius norms.

    model: as training has left it. start: the folder of its initial factors; None where every weight trained. W is the
    weight of the base model; on a quantized base the start is base + s B C A, so that no quantization error counts.
    The weights are read from the model's files again, one at a time. None where all weights train and the model has
    none of its layers' projections under the names of the files.
    """
    if start is None:
        sizes = list(_of_weights(model, stored["path"]))
    else:
        sizes = list(_of_factors(model, stored["path"], quant, factors.load(start, stored)))
    return sum(sizes) / len(sizes) if sizes else None


def _of_weights(model: Any, folder: str) -> Iterator[float]:
    """Of the matrices in the layers, all of which trained."""
    names = [key.removesuffix(".weight") for key, one in checkpoint.stored(folder).items() if len(one.shape) == 2]
    for name, weight in checkpoint.targets(folder, _projections(model, names)):
        layer = model.get_submodule(module_name(model, name))
        trained = layer.weight.detach().float()
        yield _size((trained.t() if stores_transposed(layer) else trained).sub(weight.to(trained.device)), weight)


def _projections(model: Any, names: list[str]) -> list[str]:
    """Of the files' names those of a linear layer inside the numbered layers; a stack of experts is no module."""
    found = []
    for name in filter(is_numbered, names):
        try:
            layer = model.get_submodule(module_name(model, name))
        except UserError:
            continue
        if isinstance(layer, torch.nn.Linear) or stores_transposed(layer):
            found.append(name)
    return found


def _of_factors(model: "PeftModel", folder: str, quant: str, initial: factors.Factors) -> Iterator[float]:
    layers = dict(core.layers(model))
    names = {stored: name for name, stored in counterparts(layers, initial.A).items()}
    for name, weight in checkpoint.targets(folder, list(initial.A)):
        layer = layers[names[name]]
        weight = weight.to(layer.lora_A[core.ADAPTER].weight.device)
        first = factors.product(
            initial.A[name].to(weight), initial.wide(name).to(weight), initial.scaling(name)
        )  # fmt: skip
        last = _trained(layer)
        if core.ADAPTER in (magnitudes := layer.lora_magnitude_vector):  # DoRA (arXiv 2402.09353, equation 5)
            offset = initial.offset_product(name)
            base = quantizers.base_weight(weight, None if offset is None else offset.to(weight), quant)
            last = last.add_(base)
            rows = magnitudes[core.ADAPTER].weight.detach().float().view(-1, 1) / last.norm(dim=1, keepdim=True)
            yield _size(last.mul_(rows).sub_(base).sub_(first), weight)
        else:
            yield _size(last.sub_(first), weight)


def _trained(layer: Any) -> torch.Tensor:
    """s * B @ C @ A of a layer with factors, float32 (out, in)."""
    a, b = (side[core.ADAPTER].weight.detach().float() for side in (layer.lora_A, layer.lora_B))
    return factors.product(a, b, layer.scaling[core.ADAPTER])


def _size(change: torch.Tensor, weight: torch.Tensor) -> float:
    return frobenius(change).item() / (frobenius(weight).item() or 1.0)
