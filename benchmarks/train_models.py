"""What benchmarks/train.py times: one cell's training by this project, by a plain Trainer, and by TRL's defaults.

The other two are written as anyone would write them, from the libraries' documents: no code of the project's trainer is
in them. All three get the same model, tokens, seed and recipe, in float32, so that their losses are the same numbers.
"""

import contextlib
import gc
import io
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from common import peak_resident
from datasets import Dataset
from methods_models import DATA, FIRST, MODEL, Bench
from transformers import DataCollatorForSeq2Seq, Trainer, TrainerCallback, TrainingArguments
from trl import SFTConfig, SFTTrainer

from pissa_repro import methods
from pissa_repro.plan.config import ROOT, load
from pissa_repro.sources.fetched import identities
from pissa_repro.training import trainer as trainers
from pissa_repro.training.cell import Prepared, Share, made_from, prepare, split_batch
from pissa_repro.training.how import How

if TYPE_CHECKING:
    from pissa_repro.runtime.specs import TrainSpec

OURS, PLAIN, TRL = "ours", "plain Trainer", "TRL's defaults"
RATE = 2e-5  # the paper's; at a high one the last bits of a sum grow into another training


@dataclass(frozen=True)
class Ran:
    """A training. losses: nats, of every step. Of the steps after the first ones: tokens, places, seconds, memory.

    tokens: without padding; places: with it. memory: peak bytes, on a GPU of what torch has there, else of the process.
    """

    losses: list[float]
    tokens: int
    places: int
    seconds: float
    memory: int

    @property
    def speed(self) -> float:
        """Tokens a second; padding is none."""
        return self.tokens / self.seconds

    @property
    def padding(self) -> float:
        """The share of padding in what the model computes."""
        return 1 - self.tokens / self.places


class Meter(TrainerCallback):
    """Counts and times a training, from the end of its first steps on. Reading rows is part of it."""

    def __init__(self, model: torch.nn.Module):
        self.tokens: Any = 0
        self.places, self.seconds, self.started, self.memory = 0, 0.0, 0.0, 0
        model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, model: torch.nn.Module, given: Any, named: dict[str, Any]) -> None:
        if self.started:
            self.tokens += named["attention_mask"].sum()  # stays on its device: nobody waits for it
            self.places += named["attention_mask"].numel()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == FIRST:
            _forget_peak()
            self.started = _now()
        elif state.global_step == state.max_steps:
            self.seconds, self.memory = _now() - self.started, _peak()


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def _forget_peak() -> None:
    """Let the peak of memory begin anew at what is in use."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def _peak() -> int:
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else peak_resident()


class Training(Bench):
    """One cell on a model, trained by any contender. model: a folder, or the embedded one; width: as of `Bench`.

    rows: a file of rows as GSM8K's, with `question` and `answer`; None: the generated problems. compiled: whether this
    project's blocks run through torch.compile; its first steps, which are not timed, compile them.
    """

    def __init__(self, folder: Path, cell: tuple[str, str, int], batch: int, steps: int, **source: Any):
        raw = load(ROOT / "config" / "config.yaml")
        raw["models"][MODEL]["path"] = str(source.get("model") or raw["models"][MODEL]["path"])
        raw["datasets"][DATA]["path"] = str(source.get("rows") or raw["datasets"][DATA]["path"])
        raw["train"]["batch_size"] = batch
        raw["sweep"]["learning_rates"] = [RATE]
        self.method, self.quant, rank = cell
        self.compiled = source.get("compiled", False)
        super().__init__(folder, source.get("width", 0), rank, steps, raw)
        self.prepare(self.method, self.quant)

    def run(self, name: str, micro: int) -> Ran:
        """Train by a contender, with so many rows in a micro-batch."""
        spec = self.sweep(self.method, self.quant).train_spec(self._cell(self.method, self.quant))
        init = self.start_folder(self.method, self.quant) if methods.has_factors(self.method) else None
        share = split_batch(spec["settings"]["batch_size"], micro, 1)
        scratch = trainers.Scratch(self.folder / "scratch", made_from(spec, identities(self.stored, self.data), None))
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):  # lines of progress
            prepared = prepare(spec, self.stored, self.data, init)
            if name == OURS:
                how = How(micro, compiled=self.compiled)
                trainer = trainers.build(prepared, spec, scratch, share, checkpoint_steps=10 * self.steps, how=how)
            else:
                trainer = {PLAIN: plain, TRL: trl_defaults}[name](prepared, recipe(spec, share, scratch.folder))
            meter = Meter(trainer.model)
            trainer.add_callback(meter)
            gc.collect()
            trainer.train()
        scratch.remove()
        losses = [entry["loss"] for entry in trainer.state.log_history if "grad_norm" in entry]
        return Ran(losses, int(meter.tokens), meter.places, meter.seconds, meter.memory)


def recipe(spec: "TrainSpec", share: Share, folder: Path) -> dict[str, Any]:
    """The paper's recipe under the names of TrainingArguments."""
    settings = spec["settings"]
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": share.micro,
        "gradient_accumulation_steps": share.accumulation,
        "max_steps": settings["steps"],
        "learning_rate": spec["learning_rate"],
        "lr_scheduler_type": settings["schedule"],
        "warmup_steps": settings["warmup_ratio"],
        "weight_decay": settings["weight_decay"],
        "max_grad_norm": settings["max_grad_norm"],
        "seed": spec["seed"],
        "data_seed": spec["seed"],
        "bf16": False,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": not torch.cuda.is_available(),
    }


def plain(prepared: Prepared, given: dict[str, Any]) -> Trainer:
    """transformers' Trainer as in the released code: random order, padded to the longest of a micro-batch."""
    arguments = TrainingArguments(**given, gradient_checkpointing=torch.cuda.is_available())
    collator = DataCollatorForSeq2Seq(prepared.tokenizer)
    return Trainer(prepared.model, arguments, collator, Dataset.from_list(prepared.examples))


def trl_defaults(prepared: Prepared, given: dict[str, Any]) -> Trainer:
    """SFTTrainer with its own defaults of how it runs, such as gradient checkpointing on any device."""
    arguments = SFTConfig(**given, max_length=None, dataset_kwargs={"skip_prepare_dataset": True})
    rows = Dataset.from_list(prepared.examples)
    return SFTTrainer(prepared.model, arguments, train_dataset=rows, processing_class=prepared.tokenizer)
