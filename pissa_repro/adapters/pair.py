"""A trained adapter beside the start that it was trained from: do they belong together, and what has changed."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors import safe_open

from pissa_repro.adapters import bases
from pissa_repro.adapters.folder import Adapter, Module
from pissa_repro.model.header import Stored
from pissa_repro.runtime.errors import UserError

FAR = 0.5  # cosine between trained and initial factors below which they are taken for two trainings'
SAME_SCALING = 1e-12  # relative; rsLoRA's alpha of a converted adapter is off in the last bits


class Pair:
    """The two adapters with their open files. A is (r, ...), B (out, r), in the dtype that both are stored in."""

    def __init__(self, trained: Adapter, start: Adapter, opened: ExitStack):
        self.trained, self.start = trained, start
        self.names = matched(trained, start)
        self._files: list[Any] = [
            opened.enter_context(safe_open(one.weights, framework="pt")) for one in (trained, start)
        ]

    def factors(self, module: str) -> tuple[torch.Tensor, ...]:
        """A, B of the trained adapter and A0, B0 of the start, of a module of the former."""
        after, before = self.trained.modules[module], self.start.modules[self.names[module]]
        return (*map(self.trained_tensor, (after.a, after.b)), *map(self.start_tensor, (before.a, before.b)))

    def trained_tensor(self, key: str) -> torch.Tensor:
        """A tensor of the trained adapter's file."""
        return self._files[0].get_tensor(key)

    def start_tensor(self, key: str) -> torch.Tensor:
        """A tensor of the start's file."""
        return self._files[1].get_tensor(key)

    def modules(self) -> Iterator[tuple[str, Module, Module]]:
        """Every module with its factors in both."""
        for name, other in self.names.items():
            yield name, self.trained.modules[name], self.start.modules[other]


def matched(trained: Adapter, start: Adapter) -> dict[str, str]:
    """The start's module of each trained one. All names of the trained may have one prefix more (GPT-2).

    Raises UserError where one has a module that the other lacks.
    """
    here, there = set(trained.modules), set(start.modules)
    first = min(there)
    for prefix in [name.removesuffix(first) for name in here if name == first or name.endswith(f".{first}")]:
        if {prefix + name for name in there} == here:
            return {prefix + name: name for name in sorted(there)}
    one, other = (trained, start) if here - there else (start, trained)
    only = set(one.modules) - set(other.modules)
    raise UserError(
        f"{one.path} has {len(only)} modules that {other.path} lacks, {min(only)} for one: "
        "they are not of one training."
    )


def compare(pair: Pair, times: int) -> None:
    """Raise UserError unless rank, scaling, shapes and dtypes are those of one training.

    times: how many times the start's rank the adapter must have: 1 for a trained one, 2 for a converted one.
    """
    trained, start = pair.trained, pair.start
    if trained.path.resolve() == start.path.resolve():
        raise UserError(f"{trained.path}: the adapter and its --init are one folder. Give the start of the training.")
    for module, after, before in pair.modules():
        facts: dict[str, tuple[Any, Any]] = {"rank": (after.rank, times * before.rank)}
        if times == 1:
            facts["alpha"] = (after.alpha, before.alpha)
        if abs(after.scaling / before.scaling - 1) > SAME_SCALING:
            facts["scaling"] = (after.scaling, before.scaling)
        for side in ("a", "b"):
            mine, other = trained.tensors[getattr(after, side)], start.tensors[getattr(before, side)]
            facts[f"dtype of {side.upper()}"] = (mine.dtype, other.dtype)
            facts[f"shape of {side.upper()}"] = (_without_rank(mine, side), _without_rank(other, side))
        for fact, (found, wanted) in facts.items():
            if found != wanted:
                _refuse(pair, module, fact, found, wanted, times)


def _without_rank(tensor: Stored, side: str) -> tuple[int, ...]:
    """A shape without its axis of the rank: the first of A, the second of B."""
    axis = 0 if side == "a" else 1
    return tensor.shape[:axis] + tensor.shape[axis + 1 :]


def _refuse(pair: Pair, module: str, fact: str, found: Any, wanted: Any, times: int) -> None:
    say = ""
    if fact == "rank" and times == 2:
        say = f" --to pissa takes a converted adapter, of twice the rank of {pair.start.path}."
    elif fact.startswith("dtype"):
        say = " Save both in one dtype (float32 holds the others exactly)."
    raise UserError(
        f"{module}: {fact} {found} in {pair.trained.path}, {wanted} expected from {pair.start.path}. "
        f"They are not of one training.{say}"
    )


@dataclass
class Survey:
    """What the factors say. moved: training changed something; taken: modules whose start was taken out of W."""

    moved: bool = False
    taken: set[str] = field(default_factory=set)
    cosine: float = 1.0  # between all trained and all initial factors of these


def survey(pair: Pair) -> Survey:
    """Read every factor once. Raises UserError for NaN and infinities.

    A start that is not zero was taken out of W, unless the record beside it says that nothing was.
    """
    found, inner, lengths = Survey(), 0.0, [0.0, 0.0]
    takes = not bases.takes_nothing(pair.start)
    for module in pair.names:
        a, b, a0, b0 = pair.factors(module)
        refuse_infinite(pair.trained, module, a, b)
        refuse_infinite(pair.start, module, a0, b0)
        found.moved |= not (torch.equal(a, a0) and torch.equal(b, b0))
        if takes and a0.any() and b0.any():
            found.taken.add(module)
            for after, before in ((a, a0), (b, b0)):
                flat, initial = after.flatten().double(), before.flatten().double()
                inner += float(flat @ initial)
                lengths[0] += float(flat @ flat)
                lengths[1] += float(initial @ initial)
    if found.taken:
        found.cosine = inner / (lengths[0] * lengths[1]) ** 0.5 if lengths[0] else 0.0
    return found


def refuse_infinite(adapter: Adapter, module: str, *tensors: torch.Tensor) -> None:
    """Raise UserError for factors that hold NaN or infinities."""
    if not all(bool(tensor.isfinite().all()) for tensor in tensors):
        raise UserError(f"{adapter.path}: the factors of {module} hold NaN or infinities.")


def ends_in_start(pair: Pair, module: str) -> bool:
    """Whether a module's second half is the start with a minus, on A or on B: what a conversion leaves."""
    a, b, a0, b0 = pair.factors(module)
    if len(a) != 2 * len(a0) or a.shape[1:] != a0.shape[1:] or len(b) != len(b0):
        return False
    a, b = a[len(a0) :], b[:, len(a0) :]
    return any(torch.equal(a, sign * a0) and torch.equal(b, -sign * b0) for sign in (1, -1))
