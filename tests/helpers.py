"""Run stages in this process on a tiny cell, as the workflow runs them: one config, its specs, main(argv)."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from stage import LLAMA

from pissa_repro.model import factors
from pissa_repro.model.checkpoint import weights
from pissa_repro.model.merged import Merged, TrainedCell, merged_model
from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import canonical, read_json, write_json, write_lines
from pissa_repro.sources.fetched import fetch_model
from pissa_repro.sources.rows import read_rows, select
from pissa_repro.stages import evaluate as stage_evaluate
from pissa_repro.stages import init as stage_init
from pissa_repro.stages import statistics as stage_statistics
from pissa_repro.stages import train
from pissa_repro.training import cell

torch.set_num_threads(1)  # two cores are shared; and the order of float sums depends on the number

RATE = 1e-3  # large enough that ten steps move the loss of a tiny model


def save_weights(folder: Path, weights: dict[str, torch.Tensor]) -> Path:
    """A model folder with these modules and no more, each in a shard of its own; enough for init and quant_error."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}), encoding="utf-8")
    place = {}
    for number, (module, weight) in enumerate(weights.items(), 1):
        shard = f"model-{number:05}-of-{len(weights):05}.safetensors"
        save_file({f"{module}.weight": weight.contiguous()}, folder / shard, {"format": "pt"})
        place[f"{module}.weight"] = shard
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": place}), encoding="utf-8"
    )
    return folder


def counted(monkeypatch, module, name: str) -> list:
    """The arguments of every call of a module's function from now on."""
    honest, calls = getattr(module, name), []

    def counting(*args, **kwargs):
        calls.append(args)
        return honest(*args, **kwargs)

    monkeypatch.setattr(module, name, counting)
    return calls


def config(model: Path, rows: Path, method: str, quant: str, **changes) -> dict:
    """A sweep of one cell. changes: training settings, and rank, learning_rate, seed, options, lora, statistics.

    fields: the roles of the rows, where they are no prompts and responses; the task then is perplexity, or
    classification.
    """
    fields = changes.pop("fields", {"prompt": "prompt", "response": "response"})
    own = {key: changes.pop(key) for key in ("options", "lora", "statistics") if key in changes}
    sweep = {
        "models": ["tiny"],
        "datasets": ["rows"],
        "cells": [{"method": "tested", "quant": quant}],
        "ranks": [changes.pop("rank", 4)],
        "learning_rates": [changes.pop("learning_rate", RATE)],
        "seeds": [changes.pop("seed", 0)],
        "tasks": ["task"],
    }
    settings = {"epochs": 1, "batch_size": 4, "max_length": 256, "dtype": "float32", "target_modules": LLAMA}
    return {
        "models": {"tiny": {"path": str(model)}},
        "datasets": {"rows": {"path": str(rows), "fields": fields}},
        "methods": {"tested": {"init": method, **own}},
        "train": settings | {key: value for key, value in changes.items() if key != "max_new_tokens"},
        "tasks": {
            "task": {
                "task": "gsm8k" if "response" in fields else "classification" if "label" in fields else "perplexity",
                "dataset": "rows",
                "max_new_tokens": changes.get("max_new_tokens", 8),
            }
        },
        "sweep": sweep,
    }


class Run:
    """One cell in a folder of its own, with the arguments of its stages."""

    def __init__(self, folder: Path, model: Path, rows: Path, method: str, quant: str = "none", **changes):
        self.folder, self.rows = Path(folder), Path(rows)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.sweep = Sweep(config(model, rows, method, quant, **changes))
        (self.cell,) = self.sweep.cells.values()
        self.model = self.folder / "model.json"
        write_json(self.model, fetch_model({"path": str(model)}))
        names = ("start", "scratch", "trained")
        self.start, self.scratch, self.trained = (self.folder / name for name in names)
        self.factors = self.trained / "factors"
        self.generated = self.folder / "generated.jsonl"
        self.record, self.steps = self.folder / "train.json", self.folder / "train_steps.csv"
        self.init_spec, self.spec = self.sweep.init_spec(self.cell), self.sweep.train_spec(self.cell)

    def init(self, shared: Path | None = None) -> dict:
        """Make the initial factors; returns the record. Nothing for a method without factors."""
        if self.init_spec is None:
            return {}
        return self.start_from(*self.known(shared))

    def known(self, shared: Path | None = None) -> list[Path]:
        """Measure what the start has to know of data; the folders. shared: where other cells left and find them."""
        folders = []
        for kind, spec in self.init_spec.get("statistics", {}).items():
            folders.append((shared or self.folder) / kind)
            if not (shared and folders[-1].exists()):
                stage_statistics.main([
                    "--spec", canonical(spec), "--model", str(self.model), "--data", str(self.rows),
                    "--out", str(folders[-1]),
                ])  # fmt: skip
        return folders

    def start_from(self, *statistics: Path) -> dict:
        """Make the initial factors from these folders; returns the record."""
        stage_init.main([
            "--spec", canonical(self.init_spec), "--model", str(self.model), "--out", str(self.start),
            "--scratch", str(self.folder / "decomposed"), "--statistics", *map(str, statistics),
        ])  # fmt: skip
        return read_json(self.start / "init.json")

    def train_argv(self, *extra: str) -> list[str]:
        """The arguments of the train stage."""
        return [
            "--spec", canonical(self.spec), "--model", str(self.model), "--data", str(self.rows),
            *(["--init", str(self.start)] if self.init_spec else []), "--scratch", str(self.scratch),
            "--trained", str(self.trained), "--record", str(self.record), "--steps", str(self.steps), *extra,
        ]  # fmt: skip

    def train(self, *extra: str) -> dict:
        """Train in this process; returns the record."""
        train.main(self.train_argv(*extra))
        return read_json(self.record)

    def fail_at(self, step: int, *extra: str) -> None:
        """Train until an error after a step."""
        from pissa_repro.training.trainer import Watch

        def fail(watch, args, state, control, **_):
            if state.global_step == step:
                raise UserError("stopped")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Watch, "on_step_end", fail)
            with pytest.raises(UserError, match="stopped"):
                self.train(*extra)

    def prepare(self) -> cell.Prepared:
        """What the train stage trains with."""
        return cell.prepare(self.spec, read_json(self.model), self.rows, self.start if self.init_spec else None)

    def merged(self, prompts: list[list[int]], **changed) -> Merged:
        """The trained cell, merged. changed: what its model's record says otherwise."""
        trained = TrainedCell(self.spec, self.start if self.init_spec else None, self.trained)
        return merged_model(trained, {**read_json(self.model), **changed}, prompts)

    def evaluate_argv(self, *extra: str) -> list[str]:
        """The arguments of the evaluate stage."""
        return [
            "--spec", canonical(self.sweep.evaluate_spec(self.cell, "task")), "--model", str(self.model),
            "--data", str(self.rows), *(["--init", str(self.start)] if self.init_spec else []),
            "--trained", str(self.trained), "--generations", str(self.generated),
            "--record", str(self.folder / "task.json"), "--samples", str(self.folder / "task.samples.jsonl"), *extra,
        ]  # fmt: skip

    def evaluate(self, *extra: str) -> dict:
        """Generate what is missing and score, in this process; returns the record."""
        stage_evaluate.main(self.evaluate_argv(*extra))
        return read_json(self.folder / "task.json")

    def history(self) -> list[SimpleNamespace]:
        """The rows of train_steps.csv as floats."""
        with open(self.steps, newline="", encoding="utf-8") as file:
            return [SimpleNamespace(**{k: float(v) for k, v in row.items()}) for row in csv.DictReader(file)]


def trained_by(
    folder: Path, model: Path, rows: Path, method: str, **changes
) -> tuple[Run, factors.Factors, factors.Factors]:
    """A cell of a method, its factors at the start, and those after the training."""
    run = Run(folder, model, rows, method, **changes)
    run.init()
    run.train()
    initial = factors.load(run.start, read_json(run.model))
    return run, initial, factors.load_trained(run.trained, initial)


def declared_entries(method: str, initial: factors.Factors, rank: int, options: dict) -> int:
    """How many numbers of a model can change in training, by the formula of the method's file."""
    from pissa_repro import methods

    sides = ((len(initial.B[name]), a.shape[1]) for name, a in initial.A.items())
    return sum(methods.load(method).entries(out, into, rank, options) for out, into in sides)


def gsm8k_rows(shared: Path, folder: Path, count: int) -> Path:
    """The first real GSM8K rows as the fetch stage writes them."""
    fields = {"prompt": "question", "response": "answer"}
    source = {"fields": fields, "rows": count, "response_format": "gsm8k"}
    path = folder / "gsm8k.jsonl"
    write_lines(path, select(read_rows(shared / "gsm8k" / "train.jsonl.gz"), source, "test"))
    return path


def module_names(folder: Path) -> list[str]:
    """The target modules of a Llama folder."""
    return list(weights(folder, LLAMA))


def load_json(path: Path):
    """A JSON file that is not one of our records."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def scored_rows(folder: Path, count: int = 3) -> Path:
    """Rows whose references end in '#### N', as the gsm8k task wants them."""
    path = folder / "scored.jsonl"
    write_lines(path, [{"prompt": f"What is {n} + 1?", "response": f"{n} + 1\n#### {n + 1}"} for n in range(count)])
    return path


def trained_and_scored(run: Run) -> tuple[dict, dict]:
    """One cell from its start to its score on three other rows: the records of the training and of the score."""
    run.init()
    record = run.train()
    run.rows = scored_rows(run.folder)
    return record, run.evaluate()
