"""What benchmarks/methods.py times: models, starts and trainings, with the stages' own functions."""

import contextlib
import functools
import io
import shutil
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from peft import AdaLoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, TrainerCallback

from pissa_repro import methods
from pissa_repro.model.load import load_base
from pissa_repro.plan.cells import Cell
from pissa_repro.plan.config import ROOT, load
from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime.record import write_json, write_lines
from pissa_repro.sources.fetched import EMBEDDED, fetch_dataset, fetch_model, identities
from pissa_repro.starts.make import Made, start_model, write
from pissa_repro.starts.statistics import RECORD, Known, measure_model
from pissa_repro.training import trainer as trainers
from pissa_repro.training.cell import Prepared, made_from, prepare, split_batch

if TYPE_CHECKING:
    from pissa_repro.runtime.record_types import ModelRecord
    from pissa_repro.runtime.specs import InitSpec, TrainSpec

PEFT = "PEFT's adalora"
FIRST = 2  # steps that are not counted: memory is taken then
INNER, HEADS = 11008 / 4096, 128  # LLaMA-2-7B: the inner side over the width, and a head's size
MODEL, DATA, ROWS, MICRO = "mini-llama", "gsm-mini-train", 512, 16


def _is_ours(name: str) -> bool:
    """Whether a contender is a method of the project; PEFT's is not."""
    return name in methods.names()


def _has_start(name: str) -> bool:
    return _is_ours(name) and methods.has_factors(name)


def cells(only: list[str]) -> list[tuple[str, str]]:
    """The methods and the base of each: a plain one, or nf4 where the method refuses that."""
    names = only or [*methods.names(), PEFT]
    plain = [name for name in names if not _is_ours(name) or not methods.refusal(name, "none")]
    return [(name, "none" if name in plain else "nf4") for name in names]


def one_layer(folder: Path, width: int) -> None:
    """A Llama of one layer whose projections have the shapes of LLaMA-2-7B's, but for the width; random weights."""
    torch.manual_seed(0)
    shutil.copytree(EMBEDDED, folder, ignore=shutil.ignore_patterns("*.safetensors", "pretrain.json", "config.json"))
    vocabulary = load_base(str(EMBEDDED)).config.vocab_size
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=int(width * INNER), num_hidden_layers=1,
        num_attention_heads=max(1, width // HEADS), max_position_embeddings=512, dtype="float32",
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)


class Stamps(TrainerCallback):
    """The seconds of every step: gradients, hooks and the optimizer."""

    def __init__(self, after: Any = None):
        self.seconds: list[float] = []
        self.after = after

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.started = time.perf_counter()

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.after:
            self.after(state.global_step + 1)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seconds.append(time.perf_counter() - self.started)


class Bench:
    """A model with its rows in a folder. width: of one layer of LLaMA-2-7B's shapes; 0: the model of the config.

    raw: the config; None: the shipped one, whose model is the embedded one.
    """

    def __init__(self, folder: Path, width: int, rank: int, steps: int, raw: dict[str, Any] | None = None):
        self.folder, self.steps, self.rank = folder, steps + FIRST, rank
        (self.reference,) = methods.references()
        self.raw = raw or load(ROOT / "config" / "config.yaml")
        if width:
            one_layer(folder / "model", width)
            self.raw["models"][MODEL]["path"] = str(folder / "model")
        source = self.raw["models"][MODEL]["path"]
        self.name = f"llama-{width}" if width else Path(source).name
        self.raw["train"]["steps"] = self.steps
        self.raw["sweep"] |= {"ranks": [rank], "seeds": [0]}
        self.stored: ModelRecord = fetch_model({"path": source})
        write_json(folder / "model.json", self.stored)
        self.data = folder / "rows.jsonl"
        self.measured: dict[str, float] = {}  # seconds by the name of a statistic
        write_lines(self.data, fetch_dataset({**Sweep(self.raw).data_spec(DATA)["dataset"], "rows": ROWS})[0])

    @functools.cache  # noqa: B019  a bench lives as long as its model is timed
    def sweep(self, method: str, quant: str) -> Sweep:
        """The sweep of one cell."""
        raw = {**self.raw, "sweep": {**self.raw["sweep"], "cells": [{"method": method, "quant": quant}]}}
        return Sweep(raw)

    def prepare(self, method: str, quant: str) -> None:
        """Make what is not timed: statistics, and the folder of the start that is trained."""
        if not _has_start(method):
            return
        if not self.start_folder(method, quant).exists():
            started, known = time.perf_counter(), self.known(method, quant)
            (made,) = self._made(method, quant, known)
            spec = self._init_spec(method, quant)
            write(self.start_folder(method, quant), spec, self.stored, made, started, known.data_sha256)

    def known(self, method: str, quant: str) -> Known:
        """What a start has to know of data, measured where it is not there yet."""
        names = []
        for one in self.sweep(method, quant).statistic_jobs.values():
            folder = self.folder / one.name
            names.append(folder)
            if one.name not in self.measured:
                started = time.perf_counter()
                folder.mkdir(parents=True)
                notes = folder.with_name(f"{folder.name}-notes")
                notes.mkdir()
                measure_model(self.stored["path"], one.spec, self.data, folder, notes)
                write_json(folder / RECORD, {"spec": one.spec, **identities(self.stored, self.data)})
                self.measured[one.name] = time.perf_counter() - started
        return Known(names, self.stored["fingerprint"])

    def statistics_seconds(self, method: str, quant: str) -> float:
        """Seconds of measuring what a start has to know; 0 for nothing."""
        jobs = self.sweep(method, quant).statistic_jobs if _is_ours(method) else {}
        return sum(self.measured[name] for name in jobs)

    def start_folder(self, method: str, quant: str) -> Path:
        """The initial factors that a training of a method begins with."""
        return self.folder / "starts" / f"{method}-{quant}"

    def start(self, method: str, quant: str) -> float:
        """Seconds of making the factors, each weight decomposed anew; 0 for a method without."""
        if not _has_start(method):
            return 0.0
        known, started = self.known(method, quant), time.perf_counter()
        self._made(method, quant, known)
        return time.perf_counter() - started

    def step(self, method: str, quant: str) -> float:
        """Seconds of a training step, the median of a training."""
        after = None
        if not _is_ours(method):
            spec, prepared = self._peft()
            after = prepared.model.base_model.update_and_allocate
        else:
            init = self.start_folder(method, quant) if methods.has_factors(method) else None
            spec = self.sweep(method, quant).train_spec(self._cell(method, quant))
            prepared = prepare(spec, self.stored, self.data, init)
        scratch = trainers.Scratch(self.folder / "scratch", made_from(spec, identities(self.stored, self.data), None))
        share = split_batch(spec["settings"]["batch_size"], MICRO, 1)
        trainer = trainers.build(prepared, spec, scratch, share, checkpoint_steps=10 * self.steps)
        stamps = Stamps(after)
        trainer.add_callback(stamps)
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):  # lines of progress
            trainer.train()
        scratch.remove()
        return statistics.median(stamps.seconds[FIRST:])

    def _cell(self, method: str, quant: str) -> Cell:
        (cell,) = self.sweep(method, quant).cells.values()
        return cell

    def _init_spec(self, method: str, quant: str) -> "InitSpec":
        return cast("InitSpec", self.sweep(method, quant).init_spec(self._cell(method, quant)))

    def _made(self, method: str, quant: str, known: Known) -> list[Made]:
        return start_model(self.stored["path"], [self._init_spec(method, quant)], None, known)

    def _peft(self) -> "tuple[TrainSpec, Prepared]":
        """PEFT's AdaLoRA on the whole model, with the recipe of a method that has no hooks and no factors."""
        (whole,) = (name for name in methods.names() if not methods.has_factors(name))
        spec = self.sweep(whole, "none").train_spec(self._cell(whole, "none"))
        prepared = prepare(spec, self.stored, self.data, None)
        config = AdaLoraConfig(
            task_type="CAUSAL_LM", init_r=round(1.5 * self.rank), target_r=self.rank, lora_alpha=self.rank,
            target_modules=self.raw["train"]["target_modules"], tinit=1, tfinal=1, total_step=self.steps + 1,
        )  # fmt: skip
        return spec, replace(prepared, model=get_peft_model(prepared.model, config))
