"""The parts of a trained cell with factors, module by module: what its base is made of, and what was trained."""

from collections.abc import Iterator

import torch
from safetensors import safe_open

from pissa_repro import quantizers
from pissa_repro.adapters import trained
from pissa_repro.adapters.cells import StoredCell
from pissa_repro.model import factors
from pissa_repro.model.factors import PREFIX
from pissa_repro.model.load import DTYPES
from pissa_repro.model.naming import counterparts

MAGNITUDE = ".lora_magnitude_vector"


class Parts:
    """Weights (out, in) and factors of a cell, float32. Modules are named as in the base model's files."""

    def __init__(self, cell: StoredCell):
        assert cell.start is not None
        self.initial = factors.load(cell.start, cell.model)
        self.quant, self.dtype = cell.spec["quant"], DTYPES[cell.spec["settings"]["dtype"]]
        self.adapter = trained.read(factors.trained_factors(cell.trained))
        self.names = counterparts(self.initial.A, self.adapter.modules)

    @property
    def dora(self) -> bool:
        """Whether magnitudes were trained."""
        return any(key.endswith(MAGNITUDE) for key in self.adapter.others)

    @property
    def whole(self) -> list[str]:
        """The keys of biases and whole modules that were trained beside the factors."""
        return [key for key in self.adapter.others if ".lora_" not in key]

    def trained(self, module: str) -> tuple[torch.Tensor, torch.Tensor, float]:
        """A (r, in), B (out, r) and s after the training."""
        found = self.adapter.modules[self.names[module]]
        return self._tensor(found.a), self._tensor(found.b), found.scaling

    def magnitude(self, module: str) -> torch.Tensor | None:
        """DoRA's magnitudes (out,); None without."""
        key = f"{PREFIX}{self.names[module]}{MAGNITUDE}"
        return self._tensor(key) if key in self.adapter.tensors else None

    def _tensor(self, key: str) -> torch.Tensor:
        with safe_open(self.adapter.weights, framework="pt") as file:
            return file.get_tensor(key).float()

    def taken(self, module: str) -> tuple[torch.Tensor, torch.Tensor] | None:
        """The pair (A, B) that was taken out of W; None for nothing."""
        if self.initial.taken is None:
            return None
        a, b = self.initial.taken
        return a[module], b[module]

    def base(self, module: str, weight: torch.Tensor) -> torch.Tensor:
        """The frozen base that the cell was trained on, made of the weight, which it may overwrite."""
        return self.rounded(quantizers.base_weight(weight, self.initial.offset_product(module), self.quant))

    def rounded(self, weight: torch.Tensor) -> torch.Tensor:
        """A weight with the values that the training's dtype holds."""
        return weight.to(self.dtype).float()

    def merged(self, module: str, weight: torch.Tensor) -> torch.Tensor:
        """base + sBA, with DoRA's magnitudes (arXiv 2402.09353, equation 5)."""
        a, b, s = self.trained(module)
        total, magnitude = self.base(module, weight).add_(factors.product(a, b, s)), self.magnitude(module)
        if magnitude is None:
            return total
        return total.mul_((magnitude / torch.linalg.vector_norm(total, dim=1)).unsqueeze(1))

    def changed(self, module: str, weight: torch.Tensor) -> torch.Tensor:
        """W + sBA - what was taken out: the trained cell but for the quantization of its base."""
        a, b, s = self.trained(module)
        total = weight.add_(factors.product(a, b, s))
        offset = self.initial.offset_product(module)
        return total if offset is None else total.sub_(offset)

    def updates(self) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
        """Every module under the model's name, with A' (k, in) and B' (out, k) of its change B' @ A', float64."""
        for module, name in self.names.items():
            a, b, s = self.trained(module)
            left, right = [a.double()], [s * b.double()]
            if taken := self.taken(module):
                left, right = [*left, taken[0].double()], [*right, -self.initial.scaling(module) * taken[1].double()]
            yield name, torch.cat(left), torch.cat(right, dim=1)
