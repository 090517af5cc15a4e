"""The micro-batch of `micro_batch_size: auto`: the fastest that fits, by trial on the longest rows of the training.

Nothing of a trial stays: no gradient, no drawn number. What is chosen changes the results of a training no more than
the order of a sum does, but another run, or this one after a stop, may choose otherwise: its last bits are then others.
"""

import gc
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from transformers import Trainer

from pissa_repro.training.how import MICRO
from pissa_repro.training.memory import BUCKETS
from pissa_repro.training.order import length

log = logging.getLogger(__name__)
TRIED_ON = ("cuda",)  # types of devices; a processor says nothing of memory before it is gone
MOST = 64  # rows; a larger micro-batch has more padding and is no faster
GAIN = 1.03  # how many times as fast a larger one has to be: less is noise
LEFT = 0.1  # of a card, which stays free: memory is cut into pieces
MOMENTS = 8  # bytes a trained parameter that Adam holds from its first step on: two in float32


def sizes(share: int, rows: int, world: int = 1) -> list[int]:
    """The micro-batches that a share of a batch can be cut into, the smallest first.

    share: of one of `world` processes. rows: of the data. Several processes fill up the last step of an epoch with
    rows of its beginning (training/order.py), so that only micro-batches with as many of these are the same training.
    """
    filled = math.ceil(rows / world)
    possible = (size for size in range(1, min(MOST, share, rows) + 1) if share % size == 0)
    return [size for size in possible if world == 1 or math.ceil(rows / (world * size)) * size == filled]


def fastest(seconds: Mapping[int, float]) -> int:
    """The micro-batch with most rows a second; of those about as fast the smallest. seconds: of a pass of each."""
    best = min(seconds)
    for size in sorted(seconds):
        if size / seconds[size] > GAIN * best / seconds[best]:
            best = size
    return best


def tried(run: Callable[[int], tuple[float, float]], possible: Sequence[int], room: float) -> dict[int, float]:
    """Seconds of a pass of each micro-batch that fits, up to one that is half as fast as the best; of 1 in any case.

    run: seconds and peak bytes of a pass; raises torch.OutOfMemoryError. room: bytes that it may take.
    """
    found: dict[int, float] = {}
    for size in possible:
        try:
            seconds, peak = run(size)
        except torch.OutOfMemoryError:
            break
        if found and peak > room:
            break
        found[size] = seconds
        if size / seconds < 0.5 * max(one / spent for one, spent in found.items()):
            break
    return found or {1: math.inf}  # the training itself will say that it does not fit


def choose(trainer: Trainer, examples: Sequence[Mapping[str, Any]], share: int, shared: bool) -> None:
    """Let a trainer that is made for micro-batches of one row take larger ones. Before it trains.

    examples: those that it trains on. share: rows of a step that this process takes. shared: whether the weights are
    shared among processes. All processes call it, and choose the same.
    """
    args, device = trainer.args, trainer.args.device
    possible = sizes(share, len(examples), args.world_size)
    if shared or device.type not in TRIED_ON:
        size = max(one for one in possible if one <= MICRO)
        why = "none is tried where the weights are shared" if shared else "none is tried on a processor"
    else:
        found = _agreed(_trials(trainer, examples, possible), possible, device)
        size = fastest(found)
        speeds = ", ".join(f"{one}: {one / spent:.3g}" for one, spent in found.items())
        why = f"rows a second of the longest rows, by micro-batch: {speeds}"
    args.per_device_train_batch_size = trainer._train_batch_size = size
    args.gradient_accumulation_steps = share // size
    log.info("micro_batch_size: %d; %s", size, why)


def _trials(trainer: Trainer, examples: Sequence[Mapping[str, Any]], possible: Sequence[int]) -> dict[int, float]:
    """Seconds of a pass of each micro-batch that fits here."""
    args, device, model = trainer.args, trainer.args.device, cast("Any", trainer.model)
    cuda = device.type == "cuda"
    longest = sorted(range(len(examples)), key=lambda row: length(examples[row]), reverse=True)
    collate = trainer._get_collator_with_removed_columns(trainer.data_collator)
    room = math.inf
    if cuda:
        to_come = MOMENTS + (BUCKETS if args.world_size > 1 else 0)
        whole = torch.cuda.get_device_properties(device).total_memory
        room = (1 - LEFT) * whole - to_come * trainer.get_num_trainable_parameters()
    if args.gradient_checkpointing:
        model.gradient_checkpointing_enable(args.gradient_checkpointing_kwargs)

    def run(size: int) -> tuple[float, float]:
        rows = [trainer.train_dataset[row] for row in longest[:size]]  # type: ignore[index]
        for _ in range(2):  # the first one warms up
            if cuda:
                torch.cuda.reset_peak_memory_stats(device)
                torch.cuda.synchronize(device)
            before = time.perf_counter()
            batch = collate(rows)
            with trainer.accelerator.autocast():  # which the model gets of its own when the training begins
                trainer.training_step(model, batch, (batch["labels"] >= 0).sum().to(device))
            if cuda:
                torch.cuda.synchronize(device)
        return time.perf_counter() - before, torch.cuda.max_memory_allocated(device) if cuda else 0

    with torch.random.fork_rng(devices=[device] if cuda else []):
        found = tried(run, possible, room)
    _forget(trainer)
    return found


def _agreed(found: dict[int, float], possible: Sequence[int], device: torch.device) -> dict[int, float]:
    """What every process has found to fit, at the seconds of the slowest."""
    if not torch.distributed.is_initialized():
        return found
    spent = torch.tensor([found.get(size, math.inf) for size in possible], dtype=torch.float64, device=device)
    torch.distributed.all_reduce(spent, torch.distributed.ReduceOp.MAX)
    return {size: one for size, one in zip(possible, spent.tolist(), strict=True) if one < math.inf} or {1: math.inf}


def _forget(trainer: Trainer) -> None:
    """Drop the gradients of the trials."""
    trainer.model.zero_grad(set_to_none=True)  # type: ignore[union-attr]
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
