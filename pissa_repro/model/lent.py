"""A model whose weights stay in its files: a module is lent its own while it computes, and they are placed one by one.

So a base is checked, changed and placed matrix by matrix, and no more of it is in memory than what is used. A weight
at rest is NaN everywhere and takes no memory, but has the shape and the device of the real one.
"""

import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from torch.nn import Module, Parameter

from pissa_repro.model import checks
from pissa_repro.model.checkpoint import all_finite, stored
from pissa_repro.model.composed import converted, sources, tied_twice
from pissa_repro.runtime.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Users = list[tuple[Module, str]]  # modules that have a weight, and what they call it


class Lent:
    """A model on its way into memory.

    model: of `skeleton`; it is made usable, with its buffers and with what the files lack as its class draws it.
    dtype: in which weights are placed. changes: what is made of a weight while it is lent, by its name.
    """

    def __init__(self, folder: str | Path, model: "PreTrainedModel", device: torch.device):
        self.folder, self.model, self.device = folder, model.eval(), device
        self.dtype = torch.float32
        self.changes: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {}
        self.files = stored(folder)
        self.sources = sources(model, self.files)
        self.rests: dict[str, Parameter] = {}  # the weights that are not placed yet
        self.shared: dict[str, Users] = {}  # those that several modules have
        # By the names of the sources. It keeps no module alive that was replaced, nor the weight in it.
        self.own: weakref.WeakKeyDictionary[Module, dict[str, str]] = weakref.WeakKeyDictionary()
        self._make_others()
        self._lay_to_rest()

    def read(self, name: str) -> torch.Tensor:
        """A weight as the files hold it, float32 on the device. Raises UserError for values that are not finite."""
        weight = converted(self.model, self.sources[name], lambda tensor: self._tensor(tensor).float())[name]
        if not all_finite(weight):
            raise UserError(f"{self.folder}: {name} holds NaN or infinite values; the checkpoint is damaged.")
        return weight

    def put(self, module: Module) -> None:
        """Give a module its own weights for good, float32; those that it has already stay."""
        for attribute, name in self.own.get(module, {}).items():
            if name in self.rests:
                self._put(name, self.read(name), [(module, attribute)])

    def settle(self, module: Module) -> None:
        """Round a module's weights to `dtype`; packed ones are no floating point numbers and stay."""
        for parameter in module.parameters():
            if parameter.is_floating_point():
                parameter.data = parameter.data.to(self.dtype)

    def place(self) -> "PreTrainedModel":
        """The model, with every weight that was still at rest in its place, in `dtype`."""
        for module, own in list(self.own.items()):
            for attribute, name in own.items():
                if name in self.rests:
                    self._put(name, self.read(name).to(self.dtype), [(module, attribute)])
        return self.model

    def logits(self, prompts: list[list[int]]) -> torch.Tensor:
        """`checks.logits` of the model as it is in the files, float32.

        A class may compute with weights of a module that it does not call. Then they are NaN, and all are placed first.
        """
        with self.lending():
            found = checks.logits(self.model, prompts)
        if self.rests and not found.isfinite().all():
            self.place()
            found = checks.logits(self.model, prompts)
        return found

    @contextmanager
    def lending(self) -> Iterator[None]:
        """Within, a module has its weights in float32 while it computes, and at no other time.

        Weights that are placed in float32 are there all the time.
        """
        with ExitStack() as stack:
            for module, own in list(self.own.items()):
                weights = module._parameters
                if lent := {key: name for key, name in own.items() if name in self.rests or _rounded(weights[key])}:
                    self._lend(module, lent, stack)
            yield

    def _lend(self, module: Module, lent: Mapping[str, str], stack: ExitStack) -> None:
        """Let a module have these weights {attribute: name} while it computes, until the stack is left."""
        kept = {attribute: module._parameters[attribute] for attribute in lent}
        empty = {attribute: _at_rest(one, self.device) for attribute, one in kept.items() if one is not None}

        def give(*_: Any) -> None:
            for attribute, name in lent.items():
                weight = self.read(name)
                made = self.changes[name](weight) if name in self.changes else weight
                module._parameters[attribute] = Parameter(made, requires_grad=False)

        def take(*_: Any) -> None:
            module._parameters.update(empty)

        take()  # a rounded one would tell another dtype (T5 asks for that of `wo`)
        stack.callback(module._parameters.update, kept)
        stack.callback(module.register_forward_pre_hook(give).remove)
        stack.callback(module.register_forward_hook(take, always_call=True).remove)

    def _put(self, name: str, weight: torch.Tensor, users: Users) -> None:
        made = Parameter(weight, requires_grad=self.rests.pop(name).requires_grad)
        for module, attribute in self.shared.get(name, users):
            module._parameters[attribute] = made

    def _tensor(self, name: str) -> torch.Tensor:
        """A tensor of the files as it is stored, on the device."""
        with safe_open(self.files[name].path, framework="pt") as file:  # closed again, so that no page stays mapped
            return file.get_tensor(name).to(self.device)

    def _make_others(self) -> None:
        """Make what the files lack: buffers, as the class computes them, and weights that it draws. As transformers.

        It is made on the CPU, so that its bits depend on no device.
        """
        model, state = self.model, self.model.state_dict(keep_vars=True)
        known = {id(one) for name, one in state.items() if name in self.sources}  # a tied one is there by another name
        lacking = [name for name, one in state.items() if id(one) not in known]
        buffers = dict(model.named_buffers())
        computed = [name for name, _ in model.named_non_persistent_buffers()]
        for name in dict.fromkeys((*lacking, *computed)):
            module, attribute = self._at(name)
            empty = torch.empty_like(getattr(module, attribute), device="cpu")
            setattr(module, attribute, empty if name in buffers else Parameter(empty))
        model.initialize_weights()
        for name in buffers:
            module, attribute = self._at(name)
            made = module._buffers[attribute]
            assert made is not None
            read = self._tensor(self.sources[name].tensors[0][0]) if name in self.sources else made
            module._buffers[attribute] = read.to(self.device, made.dtype)
        for name in lacking:
            if name not in buffers:
                parameter = model.get_parameter(name)
                parameter.data = parameter.data.to(self.device)

    def _lay_to_rest(self) -> None:
        """Put nothing that looks like it in the place of every weight of the files; tie what is to be tied."""
        state = self.model.state_dict(keep_vars=True)
        names = {id(one): name for name, one in state.items() if name in self.sources and isinstance(one, Parameter)}
        for one, other in tied_twice(self.model, self.sources):
            if torch.equal(self.read(one), self.read(other)):
                names[id(state[one])] = other
            else:  # as transformers does
                self.model.all_tied_weights_keys.pop(one)
        users: dict[str, Users] = defaultdict(list)
        for module in self.model.modules():
            for attribute, weight in module._parameters.items():
                if weight is not None and (name := names.get(id(weight))):
                    rest = self.rests.setdefault(name, _at_rest(weight, self.device))
                    module._parameters[attribute] = rest
                    users[name].append((module, attribute))
                    self.own.setdefault(module, {})[attribute] = name
        self.shared = {name: some for name, some in users.items() if len(some) > 1}

    def _at(self, name: str) -> tuple[Module, str]:
        module, _, attribute = name.rpartition(".")
        return self.model.get_submodule(module), attribute


def _at_rest(weight: Parameter, device: torch.device) -> Parameter:
    empty = torch.full((), torch.nan, device=device).expand(weight.shape)
    return Parameter(empty, requires_grad=weight.requires_grad)


def _rounded(weight: Parameter | None) -> bool:
    return weight is not None and weight.is_floating_point() and weight.dtype != torch.float32
