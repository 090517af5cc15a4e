"""The layers of an adapter with a core between A and B, and with parts that do not train.

A part that does not train is a buffer and no parameter: PEFT makes every parameter of an adapter trainable when it
loads a checkpoint, and a checkpoint then holds what was trained alone. It stays float32 on a base of another dtype.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import Parameter
from torch.nn.functional import linear

if TYPE_CHECKING:
    from peft import PeftModel

ADAPTER = "default"  # PEFT's name of a model's only adapter
STATE = ".lora_B.factor", ".lora_B.weight"  # the end of PEFT's key of B beside a core, and of a folder's


class Core(torch.nn.Module):
    """C (k, k), or its diagonal (k,), float32.

    weight: C itself. With `free`, bool of C's shape, the entries that may change, (n,) in the order of C's rows: no
    gradient, momentum or decay reaches the others.
    """

    whole: torch.Tensor
    places: torch.Tensor

    def __init__(self, core: torch.Tensor, free: torch.Tensor | None):
        super().__init__()
        self.masked = free is not None
        if free is not None:
            self.register_buffer("whole", core, persistent=False)
            self.register_buffer("places", free.flatten().nonzero()[:, 0], persistent=False)
            core = core.flatten()[self.places]
        self.weight = Parameter(core.clone())

    def forward(self) -> torch.Tensor:
        if not self.masked:
            return self.weight
        return self.whole.flatten().index_copy(0, self.places, self.weight).view_as(self.whole)


class Cored(torch.nn.Module):
    """B @ C in the place of B in PEFT's layer: x (..., k) -> (..., out). factor: B (out, k), float32."""

    def __init__(self, layer: torch.nn.Linear, core: Core):
        super().__init__()
        self.factor, self.bias = layer.weight, layer.bias
        self.beside = (core,)  # in a tuple it stays the layer's own: PEFT warns of vectors in its lora_B

    @property
    def core(self) -> Core:
        """The module of C."""
        return self.beside[0]

    @property
    def weight(self) -> torch.Tensor:
        """B @ C (out, k), which PEFT merges and whose norms DoRA takes."""
        core = self.core()
        return self.factor * core if core.ndim == 1 else self.factor @ core

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        core = self.core()
        return linear(x * core if core.ndim == 1 else linear(x, core), self.factor, self.bias)


def laid(core: torch.Tensor, free: torch.Tensor | None, trained: torch.Tensor | None) -> torch.Tensor:
    """The core after a training: all that was trained of it, or the start's with its `free` entries (n,) replaced."""
    if trained is None:
        return core
    return trained if free is None else core.masked_scatter(free, trained)


def put(wrapped: "PeftModel", cores: dict[str, tuple[torch.Tensor, torch.Tensor | None]]) -> None:
    """Put the core of each module, with the entries that may change (None: all), between its A and B.

    cores: by the model's names.
    """
    for name, layer in layers(wrapped):
        if name in cores:
            b = layer.lora_B[ADAPTER]
            core, free = cores[name]
            made = Core(core.to(b.weight), None if free is None else free.to(b.weight.device))
            layer.lora_core = torch.nn.ModuleDict({ADAPTER: made})
            layer.lora_B[ADAPTER] = Cored(b, made)


def freeze(wrapped: "PeftModel", trained: tuple[str, ...]) -> None:
    """Make buffers of the parts that are not among those that train."""
    for _, layer in layers(wrapped):
        b = layer.lora_B[ADAPTER]
        places = {"A": (layer.lora_A[ADAPTER], "weight"), "B": (b, "weight")}
        if isinstance(b, Cored):
            places |= {"B": (b, "factor"), "core": (b.core, "weight")}
        for part, (module, attribute) in places.items():
            if part not in trained:
                tensor = getattr(module, attribute).detach()
                delattr(module, attribute)
                module.register_buffer(attribute, tensor, persistent=False)


def layers(wrapped: "PeftModel") -> Iterator[tuple[str, Any]]:
    """PEFT's layers with factors, by the model's names."""
    from peft.tuners.lora import LoraLayer

    for name, layer in wrapped.get_base_model().named_modules():
        if isinstance(layer, LoraLayer) and ADAPTER in layer.lora_A:
            yield name, layer
