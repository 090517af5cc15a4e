"""TRL's SFTTrainer (or transformers' own) set to the paper's recipe; checkpoints survive any kill."""

import logging
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import torch
from accelerate.utils import AutocastKwargs
from datasets import Dataset
from transformers import (
    DataCollatorForSeq2Seq,
    DataCollatorWithPadding,
    PreTrainedConfig,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_callback import PrinterCallback
from trl import SFTConfig

from pissa_repro.model.architecture import CLASSIFICATION, SEQ2SEQ, architecture
from pissa_repro.runtime import walltime
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.processes import FULL, is_first
from pissa_repro.runtime.progress import Plain
from pissa_repro.runtime.record import read_json, write_json
from pissa_repro.runtime.record_types import MadeFrom
from pissa_repro.runtime.specs import TrainSpec
from pissa_repro.training import diverged, sharding, stopping
from pissa_repro.training.causal import CausalTrainer
from pissa_repro.training.cell import Prepared, Share
from pissa_repro.training.compiled import compile_blocks
from pissa_repro.training.hooks import hooks
from pissa_repro.training.how import How
from pissa_repro.training.order import by_length
from pissa_repro.training.sinks import UNWATCHED, Watched

log = logging.getLogger(__name__)
WHOLE = "whole.json"  # written into a checkpoint after everything else in it
MARK = "made_from.json"  # what the checkpoints of a folder were made from
PATIENCE = 6 * 3600  # seconds that processes wait for the one that writes a checkpoint
PLAIN = How()
Kind: TypeAlias = Callable[[type[Trainer]], type[Trainer]]  # the class to make of a trainer's


def together() -> None:
    """Wait until every process of the training is here (nothing to wait for where there is one)."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()


class Scratch:
    """The checkpoints of one cell, in a folder that belongs to one content: spec, weights, rows and start.

    A kill may fall into the middle of a checkpoint; only those with the mark are used. The time
    spent before a kill is kept, so that the record counts all of it. With several processes the
    first one alone writes and deletes here.
    """

    def __init__(self, folder: Path, made: MadeFrom):
        self.folder, self.seconds_before = folder, 0.0
        self.resumed_from: int | None = None
        self.first = is_first()
        if self.first and (other := self._other(made)):
            if any(folder.glob("checkpoint-*")):
                log.warning("%s: checkpoints of another training (%s); this one starts anew", folder, other)
            shutil.rmtree(folder, ignore_errors=True)
            write_json(folder / MARK, made)

    def _other(self, made: MadeFrom) -> str:
        """In what the training of the checkpoints was another, in words; empty where it was the same."""
        try:
            before: Any = read_json(self.folder / MARK)
        except UserError:
            return "no whole mark"
        return ", ".join(f"other {name}" for name, value in made.items() if before.get(name) != value)

    def last(self) -> str | None:
        """The newest whole checkpoint, or None; what was cut off is removed. All processes call it."""
        for path in self.folder.glob("checkpoint-*") if self.first else ():
            if not (path / WHOLE).is_file():
                shutil.rmtree(path)
        together()
        whole = {int(path.name.split("-")[1]): path for path in self.folder.glob("checkpoint-*")}
        if not whole:
            return None
        step = self.resumed_from = max(whole)
        self.seconds_before = read_json(whole[step] / WHOLE)["seconds"]
        log.info("resuming from step %d", step)
        return str(whole[step])

    def remove(self) -> None:
        """Delete the folder, after the results are safe."""
        shutil.rmtree(self.folder, ignore_errors=True)


class Watch(TrainerCallback):
    """Marks whole checkpoints, reports progress in plain lines, and ends a training that diverged or is to stop."""

    def __init__(self, scratch: Scratch, stop: walltime.Stop | None = None):
        self.scratch, self.stop, self.started = scratch, stop or walltime.Stop(), time.perf_counter()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()  # of the training alone: the start-up check took more
        self.started = time.perf_counter()  # again: a micro-batch may have been tried
        self.plain = Plain("train", state.max_steps, state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        # From a checkpoint of the last step the Trainer would go on by one batch, where the steps
        # end inside an epoch (781 of 782 in config/paper.yaml).
        if state.global_step >= state.max_steps:
            control.should_save = False
        elif stopping.asked(self.stop, args.device):
            control.should_save = control.should_training_stop = True

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        loss = (kwargs.get("logs") or {}).get("loss")
        if loss is None:
            return
        if not diverged.finite(state.log_history[-1]):
            diverged.check_moved(state.log_history)
            norm = state.log_history[-1].get("grad_norm")
            log.warning(
                "step %d: loss %s, gradient %s: diverged, the training ends here", state.global_step, loss, norm
            )
            control.should_training_stop, control.should_save = True, False  # a checkpoint would begin beyond it
            return
        if not sys.stderr.isatty() and state.is_world_process_zero:
            self.plain.step(f"loss {loss:.4f}, ")

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        together()  # each process writes a part of the checkpoint
        if not self.scratch.first:
            return
        seconds = self.scratch.seconds_before + time.perf_counter() - self.started
        write_json(self.scratch.folder / f"checkpoint-{state.global_step}" / WHOLE, {"seconds": seconds})


class UseCache(TrainerCallback):
    """Puts a config's `use_cache` back when a training ends: the Trainer turns it off, and config.json would say so."""

    def __init__(self, config: PreTrainedConfig):
        self.config, self.before = config, getattr(config, "use_cache", False)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.config.use_cache = self.before


def build(
    prepared: Prepared,
    spec: TrainSpec,
    scratch: Scratch,
    share: Share,
    checkpoint_steps: int,
    watch: Watched = UNWATCHED,
    stop: walltime.Stop | None = None,
    how: How = PLAIN,
) -> Trainer:
    """The trainer of a cell. The examples are tokenized already, with their labels.

    watch: where its curve is shown. stop: what asks it to write a checkpoint and to end; None for nothing.
    how: it runs; with `sharding: full` the model of `prepared` is on the host, and is shared by all processes.
    """
    added, config = hooks(spec, scratch.folder), prepared.model.config
    options = _options(spec, checkpoint_steps, how) | {
        **watch.options(),
        "output_dir": str(scratch.folder),
        "per_device_train_batch_size": share.micro,
        "gradient_accumulation_steps": share.accumulation,
        **({"max_grad_norm": 0.0} if added else {}),  # the hooks clip, after they changed the gradients
    }
    given = {
        "model": prepared.model,
        "train_dataset": Dataset.from_list(prepared.examples),
        "processing_class": prepared.tokenizer,
        "callbacks": [UseCache(config), *([added] if added else []), Watch(scratch, stop)],  # last: marks checkpoints
    }
    make = {SEQ2SEQ: _seq2seq, CLASSIFICATION: _classifier}.get(architecture(config), _causal)
    trainer = make(options, given, sharding.sharded if how.sharding == FULL else _same)
    # Each weight is used once in a pass: autocast's cache would only keep all of them in bfloat16 until its end.
    trainer.accelerator.autocast_handler = AutocastKwargs(cache_enabled=False)
    by_length(trainer, prepared.examples)
    if how.compiled:
        compile_blocks(prepared.model)
    trainer.remove_callback(PrinterCallback)  # a line of numbers per step; train_steps.csv has them
    if added:
        added.join(trainer)
    return trainer


def _same(kind: type[Trainer]) -> type[Trainer]:
    return kind


def _causal(options: dict[str, Any], given: dict[str, Any], of: Kind) -> Trainer:
    config = SFTConfig(
        **options,
        router_aux_loss_coef=0.0,  # of experts: TRL would add it to the loss, also where config.json leaves it out
        dataset_kwargs={"skip_prepare_dataset": True},  # tokenized and cut by training/examples.py
        max_length=None,
    )
    return of(CausalTrainer)(args=config, **given)


class _Uncached(Seq2SeqTrainer):
    """A trainer whose decoder keeps no keys and values: T5's has its own config, which the Trainer does not know."""

    def compute_loss(self, model: torch.nn.Module, inputs: dict[str, Any], *args: Any, **given: Any) -> Any:
        return super().compute_loss(model, {**inputs, "use_cache": False}, *args, **given)


def _seq2seq(options: dict[str, Any], given: dict[str, Any], of: Kind) -> Trainer:
    """SFTTrainer takes causal models only. The decoder sees the labels as the model itself shifts them."""
    collator = DataCollatorForSeq2Seq(given["processing_class"], model=given["model"])
    config = Seq2SeqTrainingArguments(**options)
    trainer = of(_Uncached)(args=config, data_collator=collator, compute_loss_func=_mean, **given)
    trainer.model_accepts_loss_kwargs = False  # T5 takes the number of tokens, and does not divide by it
    return trainer


def _classifier(options: dict[str, Any], given: dict[str, Any], of: Kind) -> Trainer:
    """A row is an item, with one label; the class of a text is read where the model reads it, at padding or not."""
    collator = DataCollatorWithPadding(given["processing_class"])
    config = TrainingArguments(**options)
    trainer = of(Trainer)(args=config, data_collator=collator, compute_loss_func=_mean, **given)
    trainer.model_accepts_loss_kwargs = False  # as above
    return trainer


def _mean(outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor) -> torch.Tensor:
    """The share of a micro-batch in the mean loss (nats) over all labels of a step, as SFTTrainer takes it.

    The labels are the response's tokens, or the classes of rows.

    The models' own loss is the mean over a micro-batch, so that a step would depend on how its batch is split.
    """
    logits = outputs.logits.flatten(0, -2).float()
    return torch.nn.functional.cross_entropy(logits, labels.flatten(), reduction="sum") / num_items_in_batch


def _options(spec: TrainSpec, checkpoint_steps: int, how: How) -> dict[str, Any]:
    """What every trainer is told of a cell, under the names of transformers' TrainingArguments."""
    settings = spec["settings"]
    return {
        "learning_rate": spec["learning_rate"],
        "lr_scheduler_type": settings["schedule"],
        "warmup_steps": settings["warmup_ratio"],  # below 1: a share of all steps
        "weight_decay": settings["weight_decay"],
        "adam_beta1": settings["adam_beta1"],
        "adam_beta2": settings["adam_beta2"],
        "adam_epsilon": settings["adam_epsilon"],
        "max_grad_norm": settings["max_grad_norm"],
        "num_train_epochs": settings["epochs"],
        "max_steps": settings["steps"] or -1,
        "seed": spec["seed"],
        "data_seed": spec["seed"],
        # Full fine-tuning in bfloat16 keeps float32 master weights, as DeepSpeed does in the
        # released scripts; adapters stay float32 on a base that is stored in bfloat16.
        "bf16": settings["dtype"] == "bfloat16" and spec["init"] is None,
        "fp16": False,
        "gradient_checkpointing": torch.cuda.is_available() if how.checkpointing is None else how.checkpointing,
        "use_cpu": not torch.cuda.is_available(),
        "ddp_timeout": PATIENCE,
        "ddp_broadcast_buffers": False,  # the parts that do not train are buffers, the same in all processes
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": checkpoint_steps,
        "save_total_limit": 2,
        "disable_tqdm": not sys.stderr.isatty(),
        "dataloader_pin_memory": torch.cuda.is_available(),
    }
