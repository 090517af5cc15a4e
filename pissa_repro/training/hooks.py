"""What a method adds to a training (methods.Training): rates of its parts, a penalty, changes of gradients and parts.

In a step of transformers 5.19 (Trainer._run_epoch) gradients are summed over micro-batches and averaged over processes,
then clipped; on_pre_optimizer_step comes after that. A method changes gradients before they are clipped, so the Trainer
of a method with hooks clips nothing, and logs the norm of the task's own gradient. Then, here: penalty, adjust,
clipping, the optimizer, settle. All processes do the same on the same numbers, so that nothing has to be sent.
"""

import hashlib
import inspect
import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pissa_repro import methods
from pissa_repro.model.adapter import parts
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.specs import TrainSpec

if TYPE_CHECKING:
    from peft import PeftModel

STATE = "hooks.safetensors"  # what the hooks keep, in a checkpoint


def hooks(spec: TrainSpec, scratch: Path) -> "Hooks | None":
    """The hooks of a cell's method; None for a method that adds nothing. scratch: the folder of checkpoints."""
    kind = methods.load(spec["method"]).TRAINING
    if kind is methods.Training:
        return None
    try:
        made = kind(spec.get("options", {}))
    except Exception as error:
        file = methods.PLUGINS.file(spec["method"])
        raise UserError(f"{file}: TRAINING: it cannot be made of its options: {error!r}.") from error
    return Hooks(spec, made, scratch)


class Hooks(TrainerCallback):
    """Calls a method's `Training`, and refuses what it may not do. Stands before the callback that marks checkpoints.

    What is frozen is compared by its hash, taken before a checkpoint is read: so that a change of before a kill is
    found, too.
    """

    def __init__(self, spec: TrainSpec, training: methods.Training, scratch: Path):
        self.training, self.file, self.scratch = training, methods.PLUGINS.file(spec["method"]), scratch
        self.clip = spec["settings"]["max_grad_norm"]
        self.checked = False  # whether the first step was
        self.lost = False  # whether the gradient of the task itself is no finite number

    def join(self, trainer: Trainer) -> None:
        """Take the trainer's model, and give it the optimizer. To be called once, before it trains."""
        self.model = cast("PeftModel", trainer.model)
        self.modules = parts(self.model)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.frozen = digests(self._frozen())
        plain = trainer.create_optimizer()  # the recipe's, with the groups that decay and do not
        self._spread(plain)
        trainer.optimizer = self._own(plain, trainer.args) or plain

    def _spread(self, optimizer: torch.optim.Optimizer) -> None:
        """Give parts with another rate groups of their own, behind the others: the first one's rate is logged."""
        rates = self.training.rates()
        if not isinstance(rates, Mapping):
            raise self._wrong(f"rates() gives {_short(rates)}; it must be numbers above 0 by part")
        for part, rate in rates.items():
            if part not in methods.PARTS or not _positive(rate):
                raise self._wrong(f"rates() gives {part!r}: {rate!r}; it must be a number above 0 of {methods.PARTS}")
        part_of = {p: part for module in self.modules.values() for part, p in module.trained().items()}
        for group in list(optimizer.param_groups):
            by_rate: dict[float, list[torch.nn.Parameter]] = {1.0: []}
            for one in group["params"]:  # not all are parts: DoRA's magnitudes
                by_rate.setdefault(rates.get(part_of.get(one, ""), 1.0), []).append(one)
            group["params"] = by_rate.pop(1.0)
            for rate, some in by_rate.items():
                optimizer.add_param_group({**group, "params": some, "lr": rate * group["lr"]})

    def _own(self, plain: torch.optim.Optimizer, args: TrainingArguments) -> torch.optim.Optimizer | None:
        """The method's own optimizer over the groups of the recipe's; None where it has none."""
        fields, filled = ("params", "lr", "weight_decay"), (group for group in plain.param_groups if group["params"])
        groups = [{key: group[key] for key in fields} for group in filled]
        adam = {key: plain.defaults[key] for key in ("lr", "betas", "eps")} | {"weight_decay": args.weight_decay}
        own = self.training.optimizer(self.modules, groups, adam)
        if own is not None and not isinstance(own, torch.optim.Optimizer):
            raise self._wrong(f"optimizer() gives {_short(own)}; it must be a torch.optim.Optimizer")
        if own is not None and _needs_closure(own):
            raise self._wrong(f"optimizer() gives a {type(own).__name__}, whose step wants to compute the loss again")
        if own is not None and _ids(own) != _ids(plain):
            raise self._wrong("optimizer() gives one over other parameters than those of its groups")
        return own

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if (kept := self._kept(state)).is_file():
            self.training.restore(load_file(kept, device=str(args.device)))

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._diverged():  # the hooks are not asked about it: the loss of this step ends the training
            return
        step = state.global_step + 1
        self._penalize(step)
        with torch.no_grad():
            self.training.adjust(self.modules, step, state.max_steps)
        # Without clipping (0) the norm is asked for, too: a gradient that is no number must not reach the parts.
        norm = torch.nn.utils.clip_grad_norm_(self.trained, self.clip or math.inf).item()
        if not math.isfinite(norm):
            raise self._wrong(
                f"step {step}: the norm of the gradient is {norm}, after penalty() and adjust(). Lower the learning "
                "rate, or mend these"
            )

    def _diverged(self) -> bool:
        """Whether the gradient is no number. The Trainer has divided by its norm, so that then no entry is one."""
        given = (parameter.grad for parameter in self.trained if parameter.grad is not None)
        self.lost = not all(gradient.isfinite().all() for gradient in itertools.islice(given, 1))
        return self.lost

    def _penalize(self, step: int) -> None:
        """Add the penalty's gradient. Not by `backward`, which would wake the averaging over processes again."""
        penalty = self.training.penalty(self.modules)
        if penalty is None:
            return
        if not isinstance(penalty, torch.Tensor) or penalty.ndim or penalty.is_complex() or not penalty.isfinite():
            raise self._wrong(
                f"step {step}: penalty() gives {_short(penalty)}; it must be a scalar and a finite number"
            )
        if not penalty.requires_grad:
            raise self._wrong(f"step {step}: penalty() gives {_short(penalty)}, which depends on no part that trains")
        gradients = torch.autograd.grad(penalty, self.trained, allow_unused=True)
        for parameter, gradient in zip(self.trained, gradients, strict=True):
            if gradient is not None:
                parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.lost:
            return
        with torch.no_grad():
            self.training.settle(self.modules, state.global_step + 1, state.max_steps)
        if not self.checked:
            self._state()
            self.checked = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.is_world_process_zero and (kept := self._state()):
            save_file(kept, self._kept(state))

    def _kept(self, state: TrainerState) -> Path:
        return self.scratch / f"checkpoint-{state.global_step}" / STATE

    def _state(self) -> dict[str, torch.Tensor]:
        """What the hooks keep, on the CPU, each tensor with memory of its own, as safetensors wants it."""
        state: Any = self.training.state()
        if not isinstance(state, Mapping):
            raise self._wrong(f"state() gives {_short(state)}; it must be tensors by name")
        for name, value in state.items():
            if not isinstance(name, str) or not isinstance(value, torch.Tensor):
                raise self._wrong(f"state() gives {name!r}: {_short(value)}; it must be tensors by name")
        return {
            name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in state.items()
        }

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        found = digests(self._frozen())
        if changed := [name for name in self.frozen | found if self.frozen.get(name) != found.get(name)]:
            raise self._wrong(f"it changed what is frozen: {', '.join(changed[:3])} ({len(changed)} in all)")
        if not self.lost and not all(parameter.isfinite().all() for parameter in self.trained):
            raise self._wrong("a part that trains is no finite number after the last step")

    def _frozen(self) -> dict[str, torch.Tensor]:
        """The parameters and the parts that do not train. Of other buffers, a model may change some by itself."""
        found: dict[str, torch.Tensor] = {n: p for n, p in self.model.named_parameters() if not p.requires_grad}
        listed = {id(tensor) for tensor in found.values()}
        for name, module in self.modules.items():
            for part in methods.PARTS:
                tensor = getattr(module, part)
                if tensor is not None and not tensor.requires_grad and id(tensor) not in listed:
                    found[f"{name}.{part}"] = tensor
        return found

    def _wrong(self, what: str) -> UserError:
        return UserError(f"{self.file}: TRAINING: {what}.")


def digests(tensors: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """SHA-256 of the bytes of every tensor: of packed weights, too, which are uint8. Of a sharded one: what is here."""
    here = {name: t.to_local() if isinstance(t := one.detach(), DTensor) else t for name, one in tensors.items()}
    flat = {name: tensor.flatten().contiguous().view(torch.uint8) for name, tensor in here.items()}
    return {name: hashlib.sha256(tensor.cpu().numpy().data).hexdigest() for name, tensor in flat.items()}


def _needs_closure(optimizer: torch.optim.Optimizer) -> bool:
    taken = inspect.signature(optimizer.step).parameters.values()
    return any(one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD for one in taken)


def _ids(optimizer: torch.optim.Optimizer) -> list[int]:
    return sorted(id(parameter) for group in optimizer.param_groups for parameter in group["params"])


def _positive(rate: Any) -> bool:
    number = isinstance(rate, int | float) and not isinstance(rate, bool)
    return number and math.isfinite(rate) and rate > 0


def _short(value: Any) -> str:
    """A value in a message: of a tensor with many entries its shape."""
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)}" if value.ndim else str(value.item())
    return f"{value!r:.80}"
