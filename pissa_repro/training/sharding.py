"""Training of weights that no process holds whole: FSDP2 (torch's `fully_shard`) under the Trainer, on any device.

A process keeps its rows of each matrix, gathers those of one block just before it computes with them, and drops them
behind it. What is frozen is sharded so; of full fine-tuning also gradients, moments and master weights. What trains of
an adapter is small: it stays whole in every process and is averaged as without sharding, so that the hooks of methods,
checkpoints and numbers are those of plain training.

Not by TrainingArguments.fsdp. On CPUs accelerate 1.15 then trains by DDP and does not say so (AcceleratorState knows
FSDP for accelerators only), it shards no 4-bit weights of uint8, and the Trainer's checkpoints hold the weights twice
or can only be read by sharded processes.
"""

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from transformers import Trainer
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME

from pissa_repro.model.blocks import listed
from pissa_repro.model.checkpoint import stored
from pissa_repro.runtime.errors import UserError

log = logging.getLogger(__name__)


def sharded(kind: type[Trainer]) -> type[Trainer]:
    """The trainer class of the same name whose model is sharded over all processes."""
    return type(f"Sharded{kind.__name__}", (Sharded, kind), {})


class Sharded(Trainer):
    """A trainer that shards its model when it is made, and whose checkpoints are those of a plain one.

    So a training goes on from any checkpoint on any number of processes, sharded or not.
    """

    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    lr_scheduler: torch.optim.lr_scheduler.LambdaLR

    def __init__(self, *args: Any, **given: Any):
        super().__init__(*args, **given)
        self.full = shard(self.model, self.args.device)
        if self.full:
            self.is_distributed_loading_by_transformers = True  # leaves the model as it is: no DDP, no other device
        else:
            options = self.accelerator.ddp_handler.to_kwargs()
            self.model_wrapped = DistributedDataParallel(self.model, **options)

    def _move_model_to_device(self, model: torch.nn.Module, device: torch.device) -> None:
        """Do not: the whole model may not fit there."""

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the weights as plain training does. All processes call it."""
        if not self.full:
            super().save_model(output_dir, _internal_call)
            return
        state = gathered(self.model)
        if self.args.should_save:
            self._save(output_dir, state_dict=state)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.full:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        first, state = self.args.should_save, self.optimizer.state_dict()
        state["state"] = {  # a new one: that of state_dict() is the optimizer's own
            number: {key: _on_host(value, first) for key, value in one.items()}
            for number, one in state["state"].items()
        }
        if first:
            torch.save(state, Path(output_dir, OPTIMIZER_NAME))
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir, SCHEDULER_NAME))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        if not self.full:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        there = stored(resume_from_checkpoint)
        names: dict[Any, list[str]] = defaultdict(list)
        for name, parameter in self.model.named_parameters(remove_duplicate=False):
            names[parameter].append(name)
        for parameter, called in names.items():  # a head that is the embedding is stored once, under one of its names
            known = next((name for name in called if name in there), None)
            if known is None:
                raise UserError(f"{resume_from_checkpoint}: lacks {called[0]}. Delete the folder and run again.")
            with safe_open(there[known].path, framework="pt") as file, torch.no_grad():
                parameter.copy_(_share(file.get_tensor(known), parameter))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if not self.full or checkpoint is None:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        # Mapped, not read: a process takes its rows of each moment and leaves the rest on the disk.
        state = torch.load(Path(checkpoint, OPTIMIZER_NAME), map_location="cpu", mmap=True, weights_only=True)
        parameters = [one for group in self.optimizer.param_groups for one in group["params"]]
        for number, one in state["state"].items():
            like = parameters[number]
            one |= {key: _share(value, like) for key, value in one.items() if value.shape == like.shape}  # not `step`
        self.optimizer.load_state_dict(state)
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint, SCHEDULER_NAME), weights_only=True))


def shard(model: Any, device: torch.device) -> bool:
    """Shard a model over all processes, on `device`, each block by itself; whether all that trains is sharded.

    What trains of an adapter is not, and is left to DDP. Raises UserError for a model that cannot be sharded.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    whole = set() if base is model else {one for one in model.parameters() if one.requires_grad}
    for one in whole:
        one.data = one.data.to(device)
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    try:
        for module in (*(base.get_submodule(name) for name in listed(base)), base):
            fully_shard(module, mesh=mesh, ignored_params=whole or None)
    except (ValueError, NotImplementedError) as error:
        raise UserError(f"config.models.<model>.sharding: full: this model cannot be sharded: {error}") from error
    names = _check(model, whole)
    if base is not model:
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, names)
    return base is model


def _check(model: torch.nn.Module, whole: set[torch.nn.Parameter]) -> list[str]:
    """The names of the sharded parameters: all but the `whole` ones. Raises UserError where one is not."""
    parameters = dict(model.named_parameters())
    sharded = {name: one for name, one in parameters.items() if isinstance(one, DTensor)}
    if left := [name for name, one in parameters.items() if name not in sharded and one not in whole]:
        raise UserError(f"config.models.<model>.sharding: full: {left[0]} is not sharded ({len(left)} in all).")
    held, of = (sum(one.nbytes for one in some) for some in (_locals(sharded), sharded.values()))
    log.info("each process holds about %.4g of %.4g MB of the weights", held / 1e6, of / 1e6)
    return list(sharded)


def _locals(parameters: Mapping[str, DTensor]) -> Iterator[torch.Tensor]:
    return (one.to_local().detach() for one in parameters.values())


def gathered(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The state of a sharded model on the host of the first process, one whole tensor under all its names.

    Of the others, the same names with empty tensors. All processes call it. A tensor at a time is whole on a device.
    """
    first = torch.distributed.get_rank() == 0
    state, made = model.state_dict(keep_vars=True), {}
    for tensor in state.values():
        if id(tensor) not in made:
            made[id(tensor)] = _on_host(tensor.detach(), first)
    return {name: made[id(tensor)] for name, tensor in state.items()}


def _on_host(value: Any, keep: bool) -> Any:
    """A whole tensor in the place of a sharded one, on the host; an empty one where it is not kept."""
    if not isinstance(value, DTensor):
        return value.cpu() if isinstance(value, torch.Tensor) else value
    whole = value.full_tensor()
    return whole.cpu() if keep else whole.new_empty(0)


def _share(whole: torch.Tensor, like: DTensor) -> torch.Tensor:
    """What this process holds of a tensor that all processes have, sharded like another; nothing is sent."""
    return distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None).clone()


def make_whole(trainer: Trainer) -> None:
    """Put the whole weights, on the host, in the place of the shards of a trainer that has trained all of them.

    All processes call it; in the first one alone the model can be used then. Does nothing to another trainer.
    """
    if not isinstance(trainer, Sharded) or not trainer.full:
        return
    made: dict[int, torch.nn.Parameter] = {}
    model, state = trainer.model, gathered(trainer.model)
    for place, module in list(model.named_modules()):
        if isinstance(module, FSDPModule):
            module.__class__ = type(module).__mro__[FSDPModule._orig_cls_mro_index]
        for name, shard in module._parameters.items():
            if shard is not None:
                whole = state[f"{place}.{name}" if place else name]
                made.setdefault(id(shard), torch.nn.Parameter(whole, requires_grad=shard.requires_grad))
                module._parameters[name] = made[id(shard)]
