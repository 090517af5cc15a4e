"""The parts of a trained cell with factors, module by module: what its base is made of, and what was trained."""

from collections.abc import Iterator

import torch
from safetensors import safe_open

from pissa_repro import methods, quantizers
from pissa_repro.adapters.cell_card import Trained
from pissa_repro.model import core, factors, keys
from pissa_repro.model.header import header
from pissa_repro.model.keys import PREFIX
from pissa_repro.model.load import DTYPES
from pissa_repro.model.naming import counterparts
from pissa_repro.model.patterns import of_module
from pissa_repro.runtime.record import read_json

MAGNITUDE = ".lora_magnitude_vector"


class Parts:
    """Weights (out, in) and factors of a cell, float32. Modules are named as in the base model's files.

    others: the keys of what was trained beside the factors. names: the model's names of the modules.
    """

    def __init__(self, left: Trained, dtype: str = "float32"):
        """dtype: that the training had the base in."""
        assert left.start is not None
        self.initial = factors.load(left.start, left.model)
        self.quant, self.dtype = factors.belongs_of(left.start)["quant"], DTYPES[dtype]
        inside = factors.trained_factors(left.folder)
        self.weights, self.config = inside / factors.FACTORS, read_json(inside / factors.CONFIG)
        self.tensors = header(self.weights)
        found = {key: keys.part_of(key) for key in self.tensors}
        self.others = sorted(key for key, (_, part) in found.items() if not part)
        self.names = counterparts(self.initial.A, {name for name, part in found.values() if part})

    @property
    def dora(self) -> bool:
        """Whether magnitudes were trained."""
        return any(key.endswith(MAGNITUDE) for key in self.others)

    @property
    def whole(self) -> list[str]:
        """The keys of biases and whole modules that were trained beside the factors."""
        return [key for key in self.others if ".lora_" not in key]

    @property
    def rank(self) -> int:
        """The largest rank that a plain LoRA of the change has."""
        times, own = 2 if self.initial.offset == "start" else 1, self.initial.offset_A
        return max(times * len(a) + len(own.get(name, ())) for name, a in self.initial.A.items())

    @property
    def size(self) -> int:
        """The bytes of A and B C of all modules."""
        return sum(4 * (self.initial.A[name].numel() + self.initial.B[name].numel()) for name in self.names)

    def trained(self, module: str) -> tuple[torch.Tensor, torch.Tensor, float]:
        """A (k, in), B C (out, k) and s after the training."""
        initial, c = self.initial, self.initial.core.get(module)
        if c is not None:
            c = core.laid(c, initial.free.get(module), self._part("core", module))
        a, b = self._part("A", module), self._part("B", module)
        a, b = initial.A[module] if a is None else a, initial.B[module] if b is None else b
        alpha, rslora = of_module(self.config, "alpha", self.names[module]), bool(self.config.get("use_rslora"))
        return a, methods.wide(b, c), factors.scaling(alpha, len(a), rslora)

    def magnitude(self, module: str) -> torch.Tensor | None:
        """DoRA's magnitudes (out,); None without."""
        key = f"{PREFIX}{self.names[module]}{MAGNITUDE}"
        return self.tensor(key).float() if key in self.tensors else None

    def _part(self, part: str, module: str) -> torch.Tensor | None:
        """What was trained of a part; None for nothing."""
        key = f"{PREFIX}{self.names[module]}.{keys.KEYS[part]}"
        return self.tensor(key).float() if key in self.tensors else None

    def tensor(self, key: str) -> torch.Tensor:
        """A tensor of the trained file, by its key."""
        with safe_open(self.weights, framework="pt") as file:
            return file.get_tensor(key)

    def base(self, module: str, weight: torch.Tensor) -> torch.Tensor:
        """The frozen base that the cell was trained on, made of the weight, which it may overwrite."""
        return self.rounded(quantizers.base_weight(weight, self.initial.offset_product(module), self.quant))

    def rounded(self, weight: torch.Tensor) -> torch.Tensor:
        """A weight with the values that the training's dtype holds."""
        return weight.to(self.dtype).float()

    def merged(self, module: str, weight: torch.Tensor) -> torch.Tensor:
        """base + s B C A, with DoRA's magnitudes (arXiv 2402.09353, equation 5)."""
        a, b, s = self.trained(module)
        total, magnitude = self.base(module, weight).add_(factors.product(a, b, s)), self.magnitude(module)
        if magnitude is None:
            return total
        return total.mul_((magnitude / torch.linalg.vector_norm(total, dim=1)).unsqueeze(1))

    def changed(self, module: str, weight: torch.Tensor) -> torch.Tensor:
        """W + s B C A - what was taken out: the trained cell but for the quantization of its base."""
        a, b, s = self.trained(module)
        total = weight.add_(factors.product(a, b, s))
        offset = self.initial.offset_product(module)
        return total if offset is None else total.sub_(offset)

    def updates(self) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
        """Every module under the model's name, with A' (k, in) and B' (out, k) of its change B' @ A', float64."""
        for module, name in self.names.items():
            _, _, s = self.trained(module)
            a, b = self.stacked(module)
            yield name, a.double(), s * b.double()

    def stacked(self, module: str) -> tuple[torch.Tensor, torch.Tensor]:
        """A' (k, in) and B' (out, k) of a module's change s B' @ A': what was trained, less what was taken out of W."""
        a, b, s = self.trained(module)
        if (taken := self.initial.taken(module)) is None:
            return a, b
        return torch.cat((a, taken[0])), torch.cat((b, -self.initial.scaling(module) / s * taken[1]), dim=1)
