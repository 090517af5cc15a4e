"""Replace the weights of a model by the frozen base that a cell trains on and is scored on."""

import contextlib
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch

from pissa_repro import quantizers
from pissa_repro.model.architecture import SEQ2SEQ, architecture
from pissa_repro.model.factors import Factors
from pissa_repro.model.load import DTYPES
from pissa_repro.runtime.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def module_name(model: "PreTrainedModel", name: str) -> str:
    """transformers' name of the module that the safetensors call `name`.

    Files may leave out the name of the base model (GPT-2 on the hub: h.0 for transformer.h.0), or
    have it where the class has not. Raises UserError for a module that the model does not have.
    """
    prefix = f"{model.base_model_prefix}."
    for candidate in (name, prefix + name, name.removeprefix(prefix)):
        with contextlib.suppress(AttributeError):
            model.get_submodule(candidate)
            return candidate
    raise UserError(f"{name}: {type(model).__name__} has no such module, with '{prefix}' in front or without.")


def stores_transposed(layer: torch.nn.Module) -> bool:
    """Whether the layer is transformers' Conv1D, whose weight is (in, out)."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(layer, Conv1D)


def uses(model: "PreTrainedModel") -> Counter[int]:
    """Under how many names a model has each parameter, by its id: more than one for an embedding that is the head."""
    return Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))


def set_base(model: "PreTrainedModel", factors: Factors, quant: str, dtype: str, pack: bool) -> None:
    """Replace W by the frozen base, quantize(W - s * offset), in every target module.

    The model comes and stays in float32, as every base is made in float32 (out, in) by quantizers.base_weight;
    `cast` rounds it to `dtype` later, which here is what packed weights compute in. pack: keep 4-bit weights
    packed (training); else dequantized (scoring, merging). A Conv1D layer (GPT-2) gets its base transposed and is
    never packed, nor is T5's `wo`. Raises UserError for a module that the model does not have, or that shares its
    weight with another.
    """
    counts = uses(model)
    for name in factors.A:
        module = module_name(model, name)
        layer, weight = model.get_submodule(module), model.get_parameter(f"{module}.weight")
        if counts[id(weight)] > 1:
            raise UserError(f"config.train.target_modules: {name} shares its weight with the embedding; take it out.")
        offset = factors.offset_product(name)
        offset = None if offset is None else offset.to(weight.device)
        if stores_transposed(layer):
            weight.data = quantizers.base_weight(weight.data.t().contiguous(), offset, quant).t().contiguous()
        elif pack and isinstance(layer, torch.nn.Linear) and _packable(model, module, quant):
            whole = weight.data if offset is None else weight.data - offset
            model.set_submodule(module, quantizers.packed(layer, whole, quant, DTYPES[dtype]))
        else:
            weight.data = quantizers.base_weight(weight.data, offset, quant)


def _packable(model: "PreTrainedModel", module: str, quant: str) -> bool:
    """Whether a linear layer can be trained on with its weight in few bits.

    Not the last layer of T5's feed-forward and of its kin: they cast what goes into `wo` to the dtype of its weight,
    which is uint8 when it is packed, and would train on activations cut to whole numbers.
    """
    casts = architecture(model.config) is SEQ2SEQ and module.endswith(".wo")
    return not casts and quantizers.packable(model.get_submodule(module), quant)


def cast(parameters: Iterable[torch.nn.Parameter], dtype: str) -> None:
    """Round the parameters to `dtype` in place; packed 4-bit weights are no floating point numbers and stay."""
    for parameter in parameters:
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(DTYPES[dtype])


def quantize(model: "PreTrainedModel", names: Iterable[str], quant: str) -> None:
    """Round the modules that the safetensors call so through few bits, nothing taken out; they stay float32."""
    for name in names:
        layer: Any = model.get_submodule(module_name(model, name))
        weight = layer.weight.data.t() if stores_transposed(layer) else layer.weight.data
        set_weight(model, name, quantizers.base_weight(weight.contiguous(), None, quant))


def set_weight(model: "PreTrainedModel", name: str, weight: torch.Tensor) -> None:
    """Put a weight (out, in) into the module that the safetensors call `name`."""
    module = module_name(model, name)
    place = model.get_parameter(f"{module}.weight")
    place.data = (weight.t() if stores_transposed(model.get_submodule(module)) else weight).contiguous().to(place)
