"""The micro-batch of `micro_batch_size: auto`: the fastest that fits, by trial on the longest rows of the training.

Nothing of a trial stays: no gradient, no drawn number, no metric. What is chosen changes the results of a training no
more than the order of a sum does, but another run may choose otherwise: its last bits may then be others.
"""

import gc
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import Trainer

from pissa_repro.training.order import length

log = logging.getLogger(__name__)
MOST = 64  # rows; a larger micro-batch has more padding and is no faster
GAIN = 1.03  # how many times as fast a larger one has to be: less is noise
LEFT = 0.1  # of a card, which stays free: memory is cut into pieces
MOMENTS = 8  # bytes a trained parameter that Adam holds from its first step on: two in float32


def sizes(share: int) -> Iterator[int]:
    """The micro-batches that a share of a batch can be cut into, the smallest first."""
    return (size for size in range(1, min(MOST, share) + 1) if share % size == 0)


def fastest(seconds: Mapping[int, float]) -> int:
    """The micro-batch with most rows a second; of those about as fast the smallest. seconds: of a pass of each."""
    best = min(seconds)
    for size in sorted(seconds):
        if size / seconds[size] > GAIN * best / seconds[best]:
            best = size
    return best


def tried(run: Callable[[int], tuple[float, float]], share: int, room: float) -> dict[int, float]:
    """Seconds of a pass of each micro-batch that fits, up to one that is half as fast as the best; of 1 in any case.

    run: seconds and peak bytes of a pass; raises torch.OutOfMemoryError. room: bytes that it may take.
    """
    found: dict[int, float] = {}
    for size in sizes(share):
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


def choose(trainer: Trainer, examples: Sequence[Mapping[str, Any]], share: int) -> int:
    """Let a trainer that is made for micro-batches of one row take larger ones; how many rows. Before it trains.

    examples: those that it trains on. share: rows of a step that this process takes. All processes call it, and choose
    the same.
    """
    args, device = trainer.args, trainer.args.device
    longest = sorted(range(len(examples)), key=lambda row: length(examples[row]), reverse=True)
    cuda = device.type == "cuda"
    moments = MOMENTS * trainer.get_num_trainable_parameters()
    room = (1 - LEFT) * torch.cuda.get_device_properties(device).total_memory - moments if cuda else math.inf
    if args.gradient_checkpointing:
        model: Any = trainer.model
        model.gradient_checkpointing_enable(args.gradient_checkpointing_kwargs)

    def run(size: int) -> tuple[float, float]:
        rows = [trainer.train_dataset[row] for row in longest[:size]]  # type: ignore[index]
        for _ in range(2):  # the first one warms up
            if cuda:
                torch.cuda.reset_peak_memory_stats(device)
                torch.cuda.synchronize(device)
            before = time.perf_counter()
            batch = trainer.data_collator(rows)
            labels = torch.as_tensor(batch["labels"])
            trainer.training_step(trainer.model, batch, (labels >= 0).sum().to(device))  # type: ignore[arg-type]
            if cuda:
                torch.cuda.synchronize(device)
        return time.perf_counter() - before, torch.cuda.max_memory_allocated(device) if cuda else 0

    with torch.random.fork_rng(devices=[device] if cuda else []), _apart(trainer):
        found = _slowest(tried(run, share, room), share, device)
    _forget(trainer)
    size = fastest(found)
    args.per_device_train_batch_size = trainer._train_batch_size = size
    args.gradient_accumulation_steps = share // size
    speeds = ", ".join(f"{one}: {one / spent:.3g}" for one, spent in found.items())
    log.info("micro_batch_size: %d. Rows a second of the longest rows, by micro-batch: %s.", size, speeds)
    return size


@contextmanager
def _apart(trainer: Trainer) -> Iterator[None]:
    """Let no process wait for another: one may run out of memory, or try more than another."""
    accelerator: Any = trainer.accelerator
    accelerator.gather_for_metrics = lambda value: value  # which TRL calls in each pass
    try:
        yield
    finally:
        del accelerator.gather_for_metrics


def _slowest(found: dict[int, float], share: int, device: torch.device) -> dict[int, float]:
    """What every process has found to fit, at the seconds of the slowest."""
    if not torch.distributed.is_initialized():
        return found
    every = list(sizes(share))
    spent = torch.tensor([found.get(size, math.inf) for size in every], dtype=torch.float64, device=device)
    torch.distributed.all_reduce(spent, torch.distributed.ReduceOp.MAX)
    return {size: one for size, one in zip(every, spent.tolist(), strict=True) if one < math.inf} or {1: math.inf}


def _forget(trainer: Trainer) -> None:
    """Drop the gradients of the trials, and what TRL's trainer has counted in them."""
    trainer.model.zero_grad(set_to_none=True)  # type: ignore[union-attr]
    for metrics in getattr(trainer, "_metrics", {}).values():
        metrics.clear()
    if hasattr(trainer, "_total_train_tokens"):
        trainer._total_train_tokens = 0
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
