"""An adapter of somebody else, taken in by the stage and scored, in this process and in a folder of its own."""

import copy
from pathlib import Path

import torch
from helpers import config

from pissa_repro.model.merged import TrainedCell, merged_model
from pissa_repro.plan.adopted import source
from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime import paths
from pissa_repro.runtime.record import canonical, read_json, write_json
from pissa_repro.sources.fetched import fetch_model
from pissa_repro.stages import adopt as stage_adopt
from pissa_repro.stages import evaluate as stage_evaluate

PROMPTS = [[3, 40, 17, 9], [250, 8]]


class Taken:
    """A sweep with one adopted adapter. given: keys of its definition beside model and dataset."""

    def __init__(self, folder: Path, model: Path, rows: Path, **given):
        self.folder, self.rows = folder, rows
        written = copy.deepcopy(config(model, rows, "lora", "none", max_new_tokens=8))
        given = {key: str(value) if isinstance(value, Path) else value for key, value in given.items()}
        written["adopted"] = {"theirs": {"model": "tiny", "dataset": "rows", **given}}
        written["sweep"]["adopted"] = ["theirs"]
        self.sweep = Sweep(written)
        (self.one,) = self.sweep.adopted.values()
        self.files = paths.cell(self.one.name, folder / "results")
        self.model = folder / "model.json"
        folder.mkdir(parents=True, exist_ok=True)
        write_json(self.model, fetch_model({"path": str(model)}))

    def adopt(self) -> dict:
        """Take it in; returns the record."""
        stage_adopt.main([
            "--spec", canonical(self.sweep.trained_spec(self.one)), "--model", str(self.model),
            "--source", canonical(source(self.sweep.config["adopted"]["theirs"])),
            "--trained", str(self.files.trained), "--record", str(self.files.train),
        ])  # fmt: skip
        return read_json(self.files.train)

    def evaluate(self) -> dict:
        """Generate and score; returns the record."""
        record, samples = self.files.score("task"), self.files.samples("task")
        stage_evaluate.main([
            "--spec", canonical(self.sweep.evaluate_spec(self.one, "task")), "--model", str(self.model),
            "--data", str(self.rows), "--trained", str(self.files.trained), "--generations",
            str(self.folder / "generated.jsonl"), "--record", str(record), "--samples", str(samples),
        ])  # fmt: skip
        return read_json(record)


def scored_model(taken):
    """What the scoring merges, and its logits after PROMPTS."""
    spec = taken.sweep.trained_spec(taken.one)
    return merged_model(TrainedCell(spec, None, taken.files.trained), read_json(taken.model), PROMPTS)


def last(model, prompts=PROMPTS):
    """A model's logits after each prompt."""
    with torch.no_grad():
        return torch.stack([model(input_ids=torch.tensor([ids])).logits[0, -1] for ids in prompts])
