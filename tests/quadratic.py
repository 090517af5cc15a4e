"""A training of one weight's parts without a model: |base + s B C A - goal|^2 / 2, with the hooks of their method."""

import torch
from starting import parts_of

from pissa_repro import methods
from pissa_repro.model.core import laid

RATE, STEPS = 1e-3, 20


class Quadratic:
    """The parts of a start, what their method adds to the training, and its optimizer. The goal is random.

    The product is made in float64: the first step of a core that is zero changes the loss by a last bit of float32.
    """

    def __init__(self, method: str, start: methods.Start, scaling: float):
        self.start, self.parts = start, parts_of(start, scaling)
        self.modules = {"layers.0.q_proj": self.parts}
        shape = len(start.B), start.A.shape[1]
        away = torch.randn(shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
        self.goal = self.product().detach() + away
        self.training = methods.load(method).TRAINING(methods.training_options(method, {}))
        adam = {"lr": RATE, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}
        rates = self.training.rates()
        groups = [
            {"params": [part], "lr": RATE * rates.get(name, 1.0), "weight_decay": 0.0}
            for name, part in self.parts.trained().items()
        ]
        self.optimizer = self.training.optimizer(self.modules, groups, adam) or torch.optim.AdamW(groups, **adam)

    def wide(self) -> torch.Tensor:
        """B C (out, k), float64."""
        b, core = self.parts.B.double(), self.parts.core
        if core is None:
            return b
        core = core.double() if self.start.free is None else laid(self.start.core, self.start.free, core).double()
        return b * core if core.ndim == 1 else b @ core

    def product(self) -> torch.Tensor:
        """s B C A (out, in), float64."""
        return self.parts.scaling * self.wide() @ self.parts.A.double()

    def loss(self) -> torch.Tensor:
        return (self.product() - self.goal).square().sum() / 2

    def copies(self) -> dict[str, torch.Tensor]:
        """All parts as they are now."""
        named = {name: getattr(self.parts, name) for name in methods.PARTS}
        return {name: part.detach().clone() for name, part in named.items() if part is not None}

    def descend(self) -> None:
        """One step of plain gradient descent, of length 1 for each part, without the method's hooks."""
        self.loss().backward()
        with torch.no_grad():
            for part in self.parts.trained().values():
                part -= part.grad / part.grad.norm().clamp(min=1e-30)

    def train(self, first: int, last: int, penalty: bool = False) -> None:
        """These steps of STEPS, from 1, as training/hooks.py makes them, but for clipping."""
        for step in range(first, last + 1):
            self.optimizer.zero_grad()
            added = self.training.penalty(self.modules) if penalty else None
            (self.loss() if added is None else self.loss() + added).backward()
            with torch.no_grad():
                self.training.adjust(self.modules, step, STEPS)
            self.optimizer.step()
            with torch.no_grad():
                self.training.settle(self.modules, step, STEPS)

    def go_on_from(self, other: "Quadratic") -> None:
        """Take over what a checkpoint keeps of another one."""
        with torch.no_grad():
            for name, part in other.copies().items():
                getattr(self.parts, name).copy_(part)
        self.optimizer.load_state_dict(other.optimizer.state_dict())
        self.training.restore({name: value.clone() for name, value in other.training.state().items()})
