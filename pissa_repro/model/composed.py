"""What the weights of a model are made of: tensors of its files, some of them joined or split by transformers."""

import copy
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from pissa_repro.model.header import Stored
from pissa_repro.model.skeleton import conversions, places

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Source(NamedTuple):
    """The tensors of the files that become a weight, each with the pattern by which the converter knows it.

    converter: transformers' operation that makes `first`, and others with it; None: the one tensor is the weight.
    """

    first: str
    tensors: list[tuple[str, Any]]
    converter: Any = None


def sources(model: "PreTrainedModel", files: dict[str, Stored]) -> dict[str, Source]:
    """The source of each weight and buffer of a model of `skeleton` that is in its files, by the model's names."""
    from transformers.core_model_loading import WeightConverter, dot_natural_key

    needed = model.state_dict()
    converters = {
        pattern: one
        for one in conversions(model)
        if isinstance(one, WeightConverter)
        for pattern in one.source_patterns
    }
    parts: dict[str, list[tuple[str, Any]]] = defaultdict(list)
    for name, place, pattern in places(model, sorted(files, key=dot_natural_key)):
        if place in needed:
            parts[place].append((name, pattern))
    found: dict[str, Source] = {}
    for place, tensors in parts.items():
        pattern = tensors[0][1]
        source = Source(place, tensors, converters[pattern] if pattern else None)
        made = converted(model, source, lambda name: torch.empty(files[name].shape, device="meta"))
        found |= dict.fromkeys(made, source)
    return found


def converted(model: "PreTrainedModel", source: Source, read: Callable[[str], torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights {name: tensor} that a source becomes; `read` gives a tensor of the files."""
    if source.converter is None:
        return {source.first: read(source.tensors[0][0])}
    steps = copy.deepcopy(source.converter)
    for name, pattern in source.tensors:
        steps.add_tensor(source.first, name, pattern, read(name))
    made = steps.convert(source.first, model=model, config=model.config)
    return {name: one[0] if isinstance(one, list) else one for name, one in made.items()}


def tied_twice(model: "PreTrainedModel", held: Iterable[str]) -> list[tuple[str, str]]:
    """The pairs of names that the config ties and that both are in the files (`held`), where they are two weights."""
    names = set(held)
    return [
        (one, other)
        for one, other in model.all_tied_weights_keys.items()
        if {one, other} <= names and model.get_parameter(one) is not model.get_parameter(other)
    ]
