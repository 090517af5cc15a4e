"""A model block by block: one block at a time is on the device, and what each block gave is kept for every row.

To run a block, the model itself runs, with what the blocks before gave in their place, and stops behind the block. So
masks, positions, T5's shared bias and the encoder's output come to it as they always do.
"""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from safetensors import safe_open
from safetensors.torch import save

from pissa_repro.runtime.record import atomic

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Output: TypeAlias = Any  # of a block: a tensor, or a tuple of tensors and None
Inputs: TypeAlias = dict[str, torch.Tensor]
PROBE = 2  # tokens of the run that shows in which order the blocks are called


class _Stop(Exception):
    def __init__(self, output: Output):
        self.output = output


class Notes:
    """What blocks gave, an output for each row, by a name: in a folder, where a kill leaves it, or held."""

    def __init__(self, folder: Path | None = None):
        self.folder = folder
        self.held: dict[str, list[Output]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self.held or (self.folder is not None and self._path(name).is_file())

    def put(self, name: str, outputs: list[Output]) -> None:
        """Keep outputs; in a folder whole or not at all."""
        if self.folder is None:
            self.held[name] = outputs
            return
        parts = {f"{row}.{number}": part for row, one in enumerate(outputs) for number, part in enumerate(_parts(one))}
        tensors = {key: part.contiguous() for key, part in parts.items() if part is not None}
        widths = json.dumps([len(one) if isinstance(one, tuple) else 0 for one in outputs])
        with atomic(self._path(name), "wb") as file:
            file.write(save(tensors, {"widths": widths}))

    def get(self, name: str) -> list[Output]:
        """What `put` was given, to the bit."""
        if name in self.held:
            return self.held[name]
        with safe_open(self._path(name), framework="pt") as file:
            there = set(file.keys())

            def part(row: int, number: int) -> torch.Tensor | None:
                key = f"{row}.{number}"
                return file.get_tensor(key) if key in there else None

            widths = enumerate(json.loads(file.metadata()["widths"]))
            return [tuple(part(row, n) for n in range(width)) if width else part(row, 0) for row, width in widths]

    def drop(self, name: str) -> None:
        """Forget it, where it is there."""
        self.held.pop(name, None)
        if self.folder is not None:
            self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{name}.safetensors"


class Blocks:
    """The blocks of a model on the host, in the order in which they are called: Llama's layers, T5's two stacks.

    All else of the model is on `device`. A model whose blocks are not called once each and in order, or give something
    else than tensors, has none here: it is worked on as a whole.
    """

    def __init__(self, model: "PreTrainedModel", example: Inputs, device: torch.device):
        self.model, self.device = model.eval(), device
        self.names = _called_once(model, example)
        self.chains = [name.rpartition(".")[0] for name in self.names]
        inside = {id(module) for name in self.names for module in model.get_submodule(name).modules()}
        for module in model.modules():
            if id(module) not in inside:
                _move(module, device)

    def number_of(self, module: str) -> int:
        """The number of the block that a module is in; that after the last for one in none."""
        found = (number for number, name in enumerate(self.names) if module.startswith(f"{name}."))
        return next(found, len(self.names))

    @contextlib.contextmanager
    def on_device(self, number: int) -> Iterator[None]:
        """This block on the device, the others not."""
        block = self.model.get_submodule(self.names[number]) if number < len(self.names) else None
        if block is not None:
            block.to(self.device)
        try:
            yield
        finally:
            if block is not None:
                block.to("cpu")

    def before(self, number: int) -> dict[str, int]:
        """The last block before this one in each chain of blocks: {chain: number}."""
        return {chain: before for before, chain in enumerate(self.chains[:number])}

    def run(self, number: int, row: Inputs, given: Mapping[str, Output]) -> Output:
        """What a block gives for a row, or the whole model for the number after the last block.

        given: what the last block before it in each chain has given, on the device.
        """
        inputs = {key: value.to(self.device) for key, value in row.items()}
        with contextlib.ExitStack() as stack:
            for chain, name in zip(self.chains[:number], self.names[:number], strict=True):
                stack.enter_context(_gives(self.model.get_submodule(name), given[chain]))
            if number < len(self.names):
                handle = self.model.get_submodule(self.names[number]).register_forward_hook(_stop)
                stack.callback(handle.remove)
            try:
                return self.model(**inputs, use_cache=False)
            except _Stop as stop:
                return stop.output


def each(change: Callable[[torch.Tensor], Any], output: Output) -> Output:
    """The output with every tensor changed; None stays."""
    if isinstance(output, tuple):
        return tuple(each(change, part) for part in output)
    return None if output is None else change(output)


def pairs(output: Output, other: Output) -> Iterator[tuple[Any, Any]]:
    """The parts of an output beside those of another of the same form, where neither is None."""
    both = () if other is None else zip(_parts(output), _parts(other), strict=True)
    return ((part, beside) for part, beside in both if part is not None and beside is not None)


def _parts(output: Output) -> tuple[Any, ...]:
    return output if isinstance(output, tuple) else (output,)


def _stop(module: torch.nn.Module, inputs: Any, output: Output) -> None:
    raise _Stop(output)


@contextlib.contextmanager
def _gives(block: torch.nn.Module, output: Output) -> Iterator[None]:
    """Let a block give this instead of computing it."""
    block.forward = lambda *args, **kwargs: output
    try:
        yield
    finally:
        del block.forward


def listed(model: torch.nn.Module) -> list[str]:
    """The names of the modules in the outermost lists of modules: Llama's layers, T5's two stacks."""
    lists: list[str] = []
    for name, module in model.named_modules():
        inner = any(name.startswith(f"{outer}.") for outer in lists)
        if isinstance(module, torch.nn.ModuleList) and not inner:
            lists.append(name)
    return [f"{name}.{number}" for name in lists for number in range(len(model.get_submodule(name)))]  # type: ignore[arg-type]


def _called_once(model: "PreTrainedModel", example: Inputs) -> list[str]:
    """The blocks in order where every one is called once, in the order of the modules, and gives tensors; else none."""
    names = listed(model)
    called: list[tuple[str, bool]] = []

    def record(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: called.append((name, _plain(output)))

    handles = [model.get_submodule(name).register_forward_hook(record(name)) for name in names]
    with torch.no_grad():
        model(**{key: value[:, :PROBE] for key, value in example.items()}, use_cache=False)
    for handle in handles:
        handle.remove()
    return names if called == [(name, True) for name in names] else []


def _plain(output: Output) -> bool:
    return all(part is None or isinstance(part, torch.Tensor) for part in _parts(output))


def _move(module: torch.nn.Module, device: torch.device) -> None:
    """Move a module's own parameters and buffers, not those of the modules in it."""
    for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
        tensor.data = tensor.data.to(device)
