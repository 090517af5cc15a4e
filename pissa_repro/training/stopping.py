"""A training that is asked to stop: after the same step in all of its processes, and never taken for a finished one."""

import logging
import signal
from typing import TYPE_CHECKING

from pissa_repro.runtime import walltime
from pissa_repro.runtime.errors import Stopped, UserError
from pissa_repro.training import diverged

if TYPE_CHECKING:
    import torch
    from transformers import TrainerState

log = logging.getLogger(__name__)


def asked(stop: walltime.Stop, device: "torch.device") -> bool:
    """Whether any process of the training was asked to stop. All call it after each step; else one would wait for ever.

    device: where the processes exchange numbers.
    """
    import torch

    if torch.distributed.is_initialized():
        number = torch.tensor(stop.number, device=device)
        torch.distributed.all_reduce(number, torch.distributed.ReduceOp.MAX)
        stop.number = int(number)
    return bool(stop.number)


def check_ended(state: "TrainerState", stop: walltime.Stop) -> None:
    """Raise Stopped for a training that was asked to stop before its last step, UserError where nothing asked for that.

    It ended as any other does, and only its steps tell that it is not finished. One that diverged has ended. A warning
    of the end of a job's time puts the job back into the queue, after the checkpoint is whole.
    """
    if state.global_step == state.max_steps or diverged.step_of(state.log_history):
        return
    if not stop.number:
        raise UserError(f"train: it ended at step {state.global_step}, of {state.max_steps} to train.")
    name = signal.Signals(stop.number).name
    log.info("%s: stopped after step %d of %d, with a whole checkpoint", name, state.global_step, state.max_steps)
    if stop.number == signal.SIGUSR1 and state.is_world_process_zero:
        walltime.requeue()
    raise Stopped(stop.number)
