"""AdaLoRA (arXiv 2303.10512): P Lambda Q, whose least important triplets over all modules are set to zero in training.

W + s P Lambda Q (equation 3): B = P, the core = Lambda, A = Q. A cell's rank is the average rank at the end, b(T) / n;
a module starts with 1.5 times as many triplets (section 3.3).

Deviations: the penalty is that of the released code and of PEFT, the mean of |P^T P - 1| and |Q Q^T - 1| without the
squares of equation 4, since the weights of Table 8 belong to it. The importances are Algorithm 1's, from the weights
before a step; PEFT takes those after it, with clipped gradients.
"""

import math
from collections.abc import Mapping
from typing import Any

from pissa_repro.methods import Matrix, Modules, Setting, Start, Training

DISPLAY, QUANTIZED_DISPLAY = "AdaLoRA", "QAdaLoRA"
RANDOM = True
LOOK = 12
TRAINING_OPTIONS = {  # the shares are medians of Table 8, in steps of its epochs and batches
    "orthogonality": 0.1,
    "warmup_share": 0.13,
    "final_share": 0.47,
    "interval": 1,
    "beta1": 0.85,
    "beta2": 0.85,
}
_MORE = 1.5  # b(0) / b(T)
_DEVIATION = 0.02  # of P and Q at the start, as in the released code and in PEFT


def start(weight: Matrix, setting: Setting) -> Start:
    """P, Q ~ N(0, 0.02^2) and Lambda = 0, so that the model is W (below equation 3)."""
    import torch

    (rows, columns), rank = weight.shape, _initial(setting.rank, *weight.shape)
    drawn = torch.empty(rank, rows + columns).normal_(0, _DEVIATION, generator=setting.generator)  # on the CPU
    a, b = drawn[:, :columns].to(weight), drawn[:, columns:].mT.to(weight)
    return Start(A=a.contiguous(), B=b.contiguous(), core=weight.new_zeros(rank))


def entries(out: int, into: int, rank: int, options: Mapping[str, Any]) -> int:
    """All triplets of the start: the ones that are zero may come back until the budget is reached."""
    return _initial(rank, out, into) * (out + into + 1)


def refuse_options(options: Mapping[str, Any]) -> str | None:
    """A budget needs steps to fall in, and a moving average forgets something and not everything."""
    if options["warmup_share"] + options["final_share"] >= 1:
        return "'warmup_share' and 'final_share' leave no steps in which the budget could fall; their sum is below 1"
    if not all(0 < options[name] < 1 for name in ("beta1", "beta2")):
        return "'beta1' and 'beta2' lie between 0 and 1"
    return None


def _initial(rank: int, out: int, into: int) -> int:
    return min(math.ceil(_MORE * rank), out, into)


def _final(initial: int) -> int:
    """The rank that `_initial` has made so many triplets of."""
    return max(1, math.floor(initial / _MORE))


def _parts(modules: Modules) -> dict[str, Matrix]:
    """The trained parts of all modules, by module and part."""
    return {f"{name}.{part}": value for name, parts in modules.items() for part, value in parts.trained().items()}


class Orthogonal(Training):
    """The penalty that keeps P and Q orthogonal: "orthogonality" times the mean of |P^T P - 1| and |Q Q^T - 1|."""

    def penalty(self, modules: Modules) -> Matrix:
        """Scalar; Frobenius norms, not squared, as in the released code."""
        import torch

        grams = [gram for parts in modules.values() for gram in (parts.A @ parts.A.mT, parts.B.mT @ parts.B)]
        missed = [(gram - torch.eye(len(gram), device=gram.device)).norm() for gram in grams]
        return self.options["orthogonality"] * torch.stack(missed).mean()


class Allocation(Orthogonal):
    """Algorithm 1: moving averages of every entry's sensitivity and of its uncertainty, and the budget's masks."""

    def __init__(self, options: Mapping[str, Any]):
        """options: TRAINING_OPTIONS."""
        super().__init__(options)
        self._sensitivity: dict[str, Matrix] = {}
        self._uncertainty: dict[str, Matrix] = {}
        self._kept: dict[str, Matrix] = {}  # of the core's entries, when the budget is reached

    def adjust(self, modules: Modules, step: int, steps: int) -> None:
        """Take in the importance of this step's gradients, which stay as they are; not when the budget is reached."""
        if not self._kept and (step < steps - self._final(steps) or not self._sensitivity):
            for name, part in _parts(modules).items():
                self._take_in(name, part)

    def _take_in(self, name: str, part: Matrix) -> None:
        """Equations 8 to 10 for the entries of one part; one that no token has reached has no sensitivity."""
        import torch

        beta1, beta2 = self.options["beta1"], self.options["beta2"]
        with torch.no_grad():
            now = torch.zeros_like(part) if part.grad is None else (part * part.grad).abs_()  # equation 8
            mean = _average(self._sensitivity, name, now).mul_(beta1).add_(now, alpha=1 - beta1)
            spread = now.sub_(mean).abs_()
            _average(self._uncertainty, name, spread).mul_(beta2).add_(spread, alpha=1 - beta2)

    def settle(self, modules: Modules, step: int, steps: int) -> None:
        """Set to zero what is not among the most important triplets over all modules (equation 6)."""
        final = step >= steps - self._final(steps)
        if final and not self._kept:
            self._kept = self._most_important(modules, _budget_at_the_end(modules))
            self._sensitivity, self._uncertainty = {}, {}  # no longer needed
        if final:
            self._mask(modules, self._kept)
        elif step > self._warmup(steps) and step % self.options["interval"] == 0:
            self._mask(modules, self._most_important(modules, self._budget(modules, step, steps)))

    def _budget(self, modules: Modules, step: int, steps: int) -> int:
        """How many triplets of all modules stay: b(t) of equation 12.

        (t - t_i) / (T - t_i - t_f) is the released code's and PEFT's; as printed, with t_f taken off once more,
        the budget would first grow.
        """
        first, last = sum(len(parts.A) for parts in modules.values()), _budget_at_the_end(modules)
        warmup, final = self._warmup(steps), self._final(steps)
        left = min(1.0, max(0.0, 1 - (step - warmup) / max(1, steps - final - warmup)))
        return int(last + (first - last) * left**3)

    def _warmup(self, steps: int) -> int:
        return round(self.options["warmup_share"] * steps)

    def _final(self, steps: int) -> int:
        return round(self.options["final_share"] * steps)

    def _scores(self, modules: Modules) -> Matrix:
        """Equations 7 and 11 of all triplets, one module after the other."""
        import torch

        entries = {name: self._sensitivity[name] * self._uncertainty[name] for name in _parts(modules)}
        return torch.cat([
            entries[f"{name}.core"] + entries[f"{name}.A"].mean(1) + entries[f"{name}.B"].mean(0) for name in modules
        ])  # fmt: skip

    def _most_important(self, modules: Modules, budget: int) -> dict[str, Matrix]:
        """Which entries of each core stay, bool (k,). Of equal scores the first stay, so that it is never too few."""
        import torch

        scores = self._scores(modules)
        kept = torch.zeros_like(scores, dtype=torch.bool)
        kept[scores.argsort(descending=True, stable=True)[:budget]] = True
        return dict(zip(modules, kept.split([len(parts.A) for parts in modules.values()]), strict=True))

    def _mask(self, modules: Modules, kept: Mapping[str, Matrix]) -> None:
        for name, parts in modules.items():
            assert parts.core is not None  # AdaLoRA's start has one
            parts.core.data.masked_fill_(~kept[name].to(parts.core.device), 0)

    def state(self) -> dict[str, Matrix]:
        """The averages of every entry, until the budget is reached; then which triplets stay."""
        return {f"{kind}.{name}": value for kind, values in self._named().items() for name, value in values.items()}

    def restore(self, state: Mapping[str, Matrix]) -> None:
        """Take `state` back."""
        for key, value in state.items():
            kind, _, name = key.partition(".")
            self._named()[kind][name] = value

    def _named(self) -> dict[str, dict[str, Matrix]]:
        return {"sensitivity": self._sensitivity, "uncertainty": self._uncertainty, "kept": self._kept}


TRAINING = Allocation


def _average(averages: dict[str, Matrix], name: str, like: Matrix) -> Matrix:
    """The average of that name, zero before its first step; on the part's device, also after a checkpoint."""
    averages[name] = averages[name].to(like) if name in averages else like.new_zeros(like.shape)
    return averages[name]


def _budget_at_the_end(modules: Modules) -> int:
    return sum(_final(len(parts.A)) for parts in modules.values())
