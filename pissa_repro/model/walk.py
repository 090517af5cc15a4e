"""Sums over rows of what the modules of a model see, and of the gradients of their weights, block by block."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import torch

from pissa_repro.model.base import stores_transposed
from pissa_repro.model.blocks import Blocks, Inputs, Notes, Output, each, pairs
from pissa_repro.runtime.errors import UserError

LIMIT = 2**30  # bytes of sums at once; more are measured one pass over the block after the other
SLICE = 512  # rows of a sum that are added together: the CPU makes a float64 copy of what it adds
NO_LOSS = -100  # the label of a token that no loss is taken on
OfInputs: TypeAlias = Callable[[torch.Tensor], torch.Tensor]
# Of the inputs x (tokens, in) of one row: what is summed over the rows. The product is float32, the sums are float64.
OF_INPUTS: dict[str, OfInputs] = {
    "covariance": lambda x: x.mT @ x,
    "magnitude": lambda x: x.abs().sum(0, dtype=torch.float64),
}


class Row(NamedTuple):
    """One example as a batch of one: what the model is given, and the labels (1, tokens), -100 for no loss."""

    inputs: Inputs
    labels: torch.Tensor


class Sum:
    """A sum over rows in float64: in float32 a long sum stops growing, as each further row is lost to rounding."""

    def __init__(self) -> None:
        self.total = torch.zeros(())  # until something was added
        self.tokens = 0

    def add(self, value: torch.Tensor) -> None:
        """Add one row's part."""
        if self.total.ndim == 0:
            self.total = torch.zeros(value.shape, dtype=torch.float64, device=value.device)
        for total, part in zip(self.total.split(SLICE), value.split(SLICE), strict=True):
            total += part


NO_SUMS: Mapping[str, Sum] = {}


class Walk:
    """One way through the blocks of a model with all rows."""

    def __init__(self, blocks: Blocks, rows: Sequence[Row], named: Mapping[str, str], notes: Notes):
        self.blocks, self.rows, self.named, self.notes = blocks, rows, named, notes
        self.end = len(blocks.names)  # the number of what follows the last block
        self.targets: dict[int, list[str]] = {number: [] for number in range(self.end + 1)}
        for name, module in named.items():
            self.targets[blocks.number_of(module)].append(name)

    def forward(self, kind: str | None) -> Iterator[tuple[str, torch.Tensor, int]]:
        """Means over the tokens, block by block; without a kind, what every block gives is kept for the way back."""
        done = max((number for number in range(self.end) if f"output{number}" in self.notes), default=-1)
        for number in range(done + 1, self.end + 1):
            outputs = None
            for group in _together(self._sizes(number, kind)) if kind else ():
                sums = {name: Sum() for name in group}
                outputs = self._outputs(number, kind, sums)
                for name in group:
                    one = self._reached(name, sums.pop(name))  # and freed, so that one is held while it is kept
                    yield name, one.total.div_(one.tokens).float(), one.tokens
            if number == self.end:
                return
            self.notes.put(f"output{number}", self._outputs(number) if outputs is None else outputs)
            before = self.blocks.before(number).get(self.blocks.chains[number])
            if kind and before is not None:
                self.notes.drop(f"output{before}")

    def backward(self) -> Iterator[tuple[str, torch.Tensor, int]]:
        """Gradients, from behind the last block to the first one."""
        done = min((number for number in range(self.end + 1) if f"gradient{number}" in self.notes), default=None)
        if done is None:
            list(self.forward(None))
        tokens = sum(int((row.labels != NO_LOSS).sum()) for row in self.rows)
        for number in range(self.end if done is None else done - 1, -1, -1):
            sums = {name: Sum() for name in self.targets[number]}
            gradients = self._gradients(number, tokens, sums)
            for name in self.targets[number]:
                one = self._reached(name, sums.pop(name))
                transposed = stores_transposed(self.blocks.model.get_submodule(self.named[name]))
                yield name, (one.total.t() if transposed else one.total).float(), one.tokens
            self.notes.put(f"gradient{number}", [one for of_chain in gradients.values() for one in of_chain])
            self.notes.drop(f"gradient{number + 1}")
            self.notes.drop(f"output{number}")

    def _outputs(self, number: int, kind: str | None = None, sums: Mapping[str, Sum] = NO_SUMS) -> list[Output]:
        """What a block gives for every row, on the host; its targets' inputs are added to the sums."""
        given = {chain: self.notes.get(f"output{before}") for chain, before in self.blocks.before(number).items()}
        outputs = []
        with torch.no_grad(), self.blocks.on_device(number), self._seen(sums, OF_INPUTS[kind] if kind else None):
            for index, row in enumerate(self.rows):
                lent = {chain: each(self._lent, some[index]) for chain, some in given.items()}
                output = self.blocks.run(number, row.inputs, lent)
                if number < self.end:
                    outputs.append(each(torch.Tensor.cpu, output))
        return outputs

    def _gradients(self, number: int, tokens: int, sums: Mapping[str, Sum]) -> dict[str, list[Output]]:
        """dL/d(what the last block before this one gave), by chain; the block's targets' gradients go to the sums.

        A row at a time: the block runs again, and the gradient of what it gives goes back through it.
        """
        before, own = self.blocks.before(number), self.blocks.chains[number] if number < self.end else None
        given = {chain: self.notes.get(f"output{last}") for chain, last in before.items()}
        known = self._known(number + 1)
        with self.blocks.on_device(number), self._seen(sums), self._collected(sums):
            for index, row in enumerate(self.rows):
                leaves = {chain: each(self._leaf, some[index]) for chain, some in given.items()}
                lent = {chain: each(torch.clone, some) for chain, some in leaves.items()}
                output = self.blocks.run(number, row.inputs, lent)
                if own is None:
                    _back([(self._loss(output.logits, row.labels) / tokens, None)])
                else:
                    _back(list(pairs(output, known[own][index])))
                    known[own][index] = None
                for chain, some in leaves.items():
                    known[chain][index] = _added(known[chain][index], each(_gradient, some))
        return known

    def _known(self, number: int) -> dict[str, list[Output]]:
        """The gradients that the block of this number has left: for each chain and row; None for none yet."""
        chains, count = list(dict.fromkeys(self.blocks.chains)), len(self.rows)
        flat = self.notes.get(f"gradient{number}") if number <= self.end else [None] * (count * len(chains))
        return {chain: flat[place * count : (place + 1) * count] for place, chain in enumerate(chains)}

    def _loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The sum over the labelled tokens, nats."""
        wanted = labels.to(logits.device).flatten()
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), wanted, reduction="sum")

    def _lent(self, part: torch.Tensor) -> torch.Tensor:
        """A copy on the device: layers may write into what they are given."""
        return part.to(self.blocks.device, copy=True)

    def _leaf(self, part: torch.Tensor) -> torch.Tensor:
        return part.to(self.blocks.device).detach().requires_grad_(part.is_floating_point())

    @contextlib.contextmanager
    def _seen(self, sums: Mapping[str, Sum], change: OfInputs | None = None) -> Iterator[None]:
        """Count the tokens that modules see, and add what `change` makes of their inputs (tokens, in)."""
        with contextlib.ExitStack() as stack:
            for name, one in sums.items():
                module = self.blocks.model.get_submodule(self.named[name])
                stack.callback(module.register_forward_pre_hook(_adds(one, change)).remove)
            yield

    @contextlib.contextmanager
    def _collected(self, sums: Mapping[str, Sum]) -> Iterator[None]:
        """Let these modules' weights have gradients, each of which goes to its sum and is freed."""
        weights = {name: self.blocks.model.get_parameter(f"{self.named[name]}.weight") for name in sums}
        with contextlib.ExitStack() as stack:
            for name, weight in weights.items():
                stack.callback(weight.requires_grad_(True).requires_grad_, False)
                stack.callback(weight.register_post_accumulate_grad_hook(_takes(sums[name])).remove)
            yield

    def _sizes(self, number: int, kind: str) -> dict[str, int]:
        """The bytes of the sums of a block's targets."""
        found = {}
        for name in self.targets[number]:
            layer = self.blocks.model.get_submodule(self.named[name])
            into = layer.weight.shape[0 if stores_transposed(layer) else 1]
            found[name] = 8 * (into**2 if kind == "covariance" else into)
        return found

    def _reached(self, name: str, one: Sum) -> Sum:
        if not one.tokens or one.total.ndim == 0:
            raise UserError(f"no row reached {name}. Give more or other rows, or take it out of the target modules.")
        return one


def _together(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """The names in order, as many together as LIMIT allows, one at least."""
    group: list[str] = []
    for name, size in sizes.items():
        if group and sum(sizes[other] for other in group) + size > LIMIT:
            yield group
            group = []
        group.append(name)
    if group:
        yield group


def _adds(one: Sum, change: OfInputs | None) -> Callable[..., None]:
    """A hook before a module: count its tokens, and add what `change` makes of them."""

    def add(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        x = inputs[0].detach().reshape(-1, inputs[0].shape[-1]).float()
        one.tokens += len(x)
        if change:
            one.add(change(x))

    return add


def _takes(one: Sum) -> Callable[[torch.Tensor], None]:
    """A hook behind a weight's gradient: add it, and free it."""

    def take(weight: torch.Tensor) -> None:
        assert weight.grad is not None
        one.add(weight.grad)
        weight.grad = None

    return take


def _back(ends: list[tuple[torch.Tensor, torch.Tensor | None]]) -> None:
    """Go back from these tensors with these gradients; those that no gradient can come from are left out."""
    some = [(end, gradient) for end, gradient in ends if end.requires_grad]
    if some:
        torch.autograd.backward(
            [end for end, _ in some], [None if given is None else given.to(end.device) for end, given in some]
        )


def _gradient(leaf: torch.Tensor) -> torch.Tensor | None:
    return None if leaf.grad is None else leaf.grad.cpu()


def _added(one: Output, other: Output) -> Output:
    """The sum of two outputs of the same form, part by part; None counts as zero."""
    if one is None or other is None:
        return other if one is None else one
    if isinstance(one, tuple):
        return tuple(_added(*both) for both in zip(one, other, strict=True))
    return one + other
