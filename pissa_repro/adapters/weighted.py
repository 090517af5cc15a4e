"""PEFT's add_weighted_adapter without the base model: on modules of its names and shapes that hold no weights.

All of the arithmetic is PEFT's (tuners/lora/model.py). What it leaves wrong around that is mended here: the factors of
the result carry the scaling of what they are made of, so its own is 1, also with rsLoRA, where PEFT leaves sqrt(r).
"""

import warnings
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from torch import nn

from pissa_repro.adapters.folder import Adapter, is_embedding
from pissa_repro.adapters.pair import refuse_infinite
from pissa_repro.model import naming

COMBINED = "combined"


class Recipe(NamedTuple):
    """What PEFT is asked for. how: its combination_type; density: the share of values kept; rank: that of an SVD."""

    how: str
    weights: Sequence[float]
    density: float | None
    rank: int | None
    seed: int


def combine(adapters: Sequence[Adapter], recipe: Recipe) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """A (r, in) and B (out, r) of every module, float32, their scaling 1; memory: all adapters and the result.

    Raises UserError for factors that are not finite. The adapters' modules must have been compared.
    """
    targets = sorted({name for adapter in adapters for name in adapter.modules}, key=in_order)
    root: Any = _hollow(targets, adapters)
    put_on(root, adapters, recipe)
    return {target: _factors(root.get_submodule(target), COMBINED) for target in targets}


def put_on(root: Any, adapters: Sequence[Adapter], recipe: Recipe) -> Any:
    """PEFT's LoraModel of a model with these adapters and, active, their combination.

    Random numbers (dare) are those after torch.manual_seed(seed), drawn in the order of the model's modules.
    """
    from peft import LoraConfig
    from peft.tuners.lora import LoraLayer, LoraModel

    names = [f"adapter{number}" for number in range(len(adapters))]
    configs = {
        name: LoraConfig(r=adapter.rank, lora_alpha=adapter.rank, target_modules=list(adapter.modules))
        for name, adapter in zip(names, adapters, strict=True)
    }
    model: Any = LoraModel(root, {names[0]: configs[names[0]]}, names[0])
    for name in names[1:]:
        model.peft_config[name] = configs[name]
        model.inject_adapter(root, name)
    for name, adapter in zip(names, adapters, strict=True):
        _fill(root, name, adapter)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The density")  # 1 keeps all: it was asked for
        torch.manual_seed(recipe.seed)
        model.add_weighted_adapter(
            names, list(recipe.weights), COMBINED, combination_type=recipe.how,
            svd_rank=recipe.rank, svd_full_matrices=False, density=recipe.density,
        )  # fmt: skip
    for layer in root.modules():
        if isinstance(layer, LoraLayer) and COMBINED in layer.scaling:
            layer.scaling[COMBINED] = 1.0
    model.set_adapter(COMBINED)
    return model


def in_order(module: str) -> tuple[Any, ...]:
    """A sort key for the order in which Llama and its kin hold their modules: embedding, layers, head; q before down.

    It decides which of dare's random numbers a module gets.
    """
    parts = naming.natural(module)
    layer = [key for key in parts if key[0] >= 0]
    return not layer and not naming.is_embedding(module), layer, naming.order(module), parts


def distance(
    result: dict[str, tuple[torch.Tensor, torch.Tensor]], adapters: Sequence[Adapter], weights: Sequence[float]
) -> float:
    """|dW - sum of weight s B A| / |that sum| (Frobenius, over all modules): what a combination changes of the sum."""
    off = whole = 0.0
    opened = [_tensors(adapter) for adapter in adapters]
    for name, (a, b) in result.items():
        parts = [
            (tensors[one.modules[name].a], weight * one.modules[name].scaling * tensors[one.modules[name].b].double())
            for one, tensors, weight in zip(adapters, opened, weights, strict=True)
            if name in one.modules
        ]
        whole += _squared(parts)
        off += _squared([*parts, (a, -b.double())])
    return (max(off, 0.0) / whole) ** 0.5 if whole else 0.0


def _squared(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """|sum of B A|^2 by the Gram matrices of the factors, in float64: no matrix of the weight's size."""
    a, b = torch.cat([a.double() for a, _ in pairs]), torch.cat([b.double() for _, b in pairs], dim=1)
    return float(((a @ a.T) * (b.T @ b)).sum())


def _hollow(targets: Iterable[str], adapters: Sequence[Adapter]) -> nn.Module:
    """A model of these modules, each with the sizes that its factors have, in this order; weights take no memory."""
    root = nn.Module()
    for name in targets:
        adapter = next(one for one in adapters if name in one.modules)
        module = adapter.modules[name]
        inner, outer = adapter.tensors[module.a].shape[1], adapter.tensors[module.b].shape[0]
        *parents, leaf = name.split(".")
        place = root
        for part in parents:
            if part not in dict(place.named_children()):
                place.add_module(part, nn.Module())
            place = place.get_submodule(part)
        layer: nn.Module
        if is_embedding(module.a):
            layer, shape = nn.Embedding(inner, outer, device="meta"), (inner, outer)
        else:
            layer, shape = nn.Linear(inner, outer, bias=False, device="meta"), (outer, inner)
        # PEFT moves factors to the device of the weight, so it is on the CPU: one number, seen everywhere
        layer.weight = nn.Parameter(torch.zeros(1).expand(shape), requires_grad=False)
        place.add_module(leaf, layer)
    return root


def _fill(root: nn.Module, name: str, adapter: Adapter) -> None:
    """Put an adapter's factors, as float32 (PEFT's own cast), and its scalings into the layers."""
    tensors = _tensors(adapter)
    for target, module in adapter.modules.items():
        layer: Any = root.get_submodule(target)
        a, b = tensors[module.a], tensors[module.b]
        refuse_infinite(adapter, target, a, b)
        for place, tensor in zip(_places(layer, name), (a, b), strict=True):
            place.data = tensor.float()
        layer.scaling[name] = module.scaling


def _places(layer: Any, name: str) -> tuple[Any, Any]:
    if name in layer.lora_A:
        return layer.lora_A[name].weight, layer.lora_B[name].weight
    return layer.lora_embedding_A[name], layer.lora_embedding_B[name]


def _factors(layer: Any, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    a, b = _places(layer, name)
    return a.detach().contiguous(), b.detach().contiguous()


def _tensors(adapter: Adapter) -> dict[str, torch.Tensor]:
    """The factors of a file, in its dtype."""
    with safe_open(adapter.weights, framework="pt") as file:
        keys = [key for module in adapter.modules.values() for key in (module.a, module.b)]
        return {key: file.get_tensor(key) for key in keys}
