"""Replace the weights of a model by the frozen base that a cell trains on and is scored on."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from pissa_repro import quantizers
from pissa_repro.model.architecture import SEQ2SEQ, architecture
from pissa_repro.model.factors import Factors, product
from pissa_repro.model.load import DTYPES
from pissa_repro.runtime.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from pissa_repro.model.lent import Lent

Changes = dict[str, Callable[[torch.Tensor], torch.Tensor]]


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


def sharing(model: "PreTrainedModel", modules: Iterable[str]) -> list[str]:
    """Those of the modules, by the model's names, whose weight is another one's too: a head tied to the embedding.

    A name that the model does not have is none of them.
    """
    counts, there = uses(model), dict(model.named_modules())
    return [name for name in modules if counts[id(getattr(there.get(name), "weight", None))] > 1]


def set_base(
    model: "PreTrainedModel", factors: Factors, quant: str, dtype: str, pack: bool, lent: "Lent | None" = None
) -> None:
    """Replace W by the frozen base, quantize(W - s * offset), in every target module.

    The model comes and stays in float32, as every base is made in float32 (out, in) by quantizers.base_weight;
    `cast` rounds it to `dtype` later, which here is what packed weights compute in. pack: keep 4-bit weights
    packed (training); else dequantized (scoring, merging). lent: of a model whose weights are not in their places yet;
    each W is then read when its turn comes, and its base put there in the dtype that `lent` has. A Conv1D layer (GPT-2)
    gets its base transposed and is never packed, nor is T5's `wo`. Raises UserError for a module that the model does
    not have, or that shares its weight with another.
    """
    for name, module in _own(model, factors.A).items():
        if lent is not None:
            lent.put(model.get_submodule(module))
        packs = pack and _packable(model, module, quant)
        _replace(model, module, factors.offset_product(name), quant, DTYPES[dtype] if packs else None)
        if lent is not None:
            layer = model.get_submodule(module)
            lent.settle(layer)
            lent.changes[f"{module}.weight"] = partial(_made, factors, name, quant, stores_transposed(layer))


def changes(model: "PreTrainedModel", factors: Factors, quant: str) -> Changes:
    """What makes the base of every target weight, as `set_base` makes it, by the weight's name in the model.

    Each takes a weight W in float32 as its layer stores it, which it may overwrite. Raises UserError as set_base.
    """
    return {
        f"{module}.weight": partial(_made, factors, name, quant, stores_transposed(model.get_submodule(module)))
        for name, module in _own(model, factors.A).items()
    }


def quantizing(model: "PreTrainedModel", names: Iterable[str], quant: str) -> Changes:
    """The same of `quantize`."""
    modules = [module_name(model, name) for name in names]
    flips = {module: stores_transposed(model.get_submodule(module)) for module in modules}
    return {
        f"{name}.weight": partial(_based, offset=None, quant=quant, transposed=flip) for name, flip in flips.items()
    }


def _own(model: "PreTrainedModel", names: Iterable[str]) -> dict[str, str]:
    """The model's names of the modules that the safetensors call so, each of which has its weight for itself."""
    found = {name: module_name(model, name) for name in names}
    for module in sharing(model, found.values()):
        raise UserError(f"config.train.target_modules: {module} shares its weight with the embedding; take it out.")
    return found


def _replace(
    model: "PreTrainedModel", module: str, offset: torch.Tensor | None, quant: str, packed: torch.dtype | None
) -> None:
    """Replace the W of one module by its base. packed: the dtype in which a packed one computes; None for others.

    What it needs on the way is freed when it returns, before the next W is read.
    """
    layer, weight = model.get_submodule(module), model.get_parameter(f"{module}.weight")
    offset = None if offset is None else offset.to(weight.device)
    if packed is not None and isinstance(layer, torch.nn.Linear):
        whole = weight.data if offset is None else torch.sub(weight.data, offset, out=offset)
        model.set_submodule(module, quantizers.packed(layer, whole, quant, packed))
    else:
        weight.data = _based(weight.data, offset, quant, stores_transposed(layer))


def _based(weight: torch.Tensor, offset: torch.Tensor | None, quant: str, transposed: bool) -> torch.Tensor:
    """The base of a weight as its layer stores it; the offset is (out, in), and is overwritten."""
    if transposed:
        return quantizers.base_weight(weight.t().contiguous(), offset, quant).t().contiguous()
    return quantizers.base_weight(weight, offset, quant)


def _made(factors: Factors, name: str, quant: str, transposed: bool, weight: torch.Tensor) -> torch.Tensor:
    """The base of a weight on its device, where the product of the factors is taken too: to look at, not to keep."""
    taken = factors.taken(name)
    if taken is None:
        return _based(weight, None, quant, transposed)
    a, b = (one.to(weight.device) for one in taken)
    return _based(weight, product(a, b, factors.scaling(name)), quant, transposed)


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
