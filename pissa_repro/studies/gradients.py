"""Gradients of A and B at the start, and the first updates, over seeds of the start: Table 11 and Figure 18.

Everything goes through the trainer of the cells: its loss, its order of rows, its schedule. Seeds differ in the start
alone, which is made anew for each, also by a method that draws nothing.
"""

import logging
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pissa_repro.model import adapter, factors
from pissa_repro.runtime.record_types import Identity, ModelRecord
from pissa_repro.runtime.specs import TrainSpec
from pissa_repro.runtime.study_specs import GradientsSpec
from pissa_repro.sources.fetched import base_of
from pissa_repro.starts import make
from pissa_repro.starts.kept import Kept
from pissa_repro.training import trainer as trainers
from pissa_repro.training.cell import Prepared, made_from, prepare, split_batch

log = logging.getLogger(__name__)
FACTORS = ("A", "B")
NEVER = 10**9  # steps between checkpoints: none is made
Vector = dict[str, torch.Tensor]  # the tensors of one factor by module: together one long vector


class Given(NamedTuple):
    """What all runs of a study share. micro: sequences in a forward pass."""

    stored: ModelRecord
    data: Path
    identity: Identity
    micro: int


class First(NamedTuple):
    """What one start gives. gradients, by factor; loss: on the batch of the gradients."""

    gradients: dict[str, Vector]
    loss: float


class Gradients(TrainerCallback):
    """Keeps the gradients of the first step, before the optimizer sees them, and what the parts were before it."""

    def __init__(self, model: Any):
        self.parts = adapter.parts(model)
        self.found: dict[str, Vector] = {}

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.found = {
            factor: {name: getattr(one, factor).grad.float().cpu().clone() for name, one in self.parts.items()}
            for factor in FACTORS
        }


class Places(TrainerCallback):
    """Keeps A and B at the start, after each of the first updates and after the last one, which ends the training."""

    def __init__(self, model: Any, updates: int, target: int):
        self.parts, self.target, self.wanted = adapter.parts(model), target, {*range(updates + 1), target}
        self.kept: dict[int, dict[str, Vector]] = {}

    def _keep(self, step: int) -> None:
        if step in self.wanted:
            self.kept[step] = _copied(self.parts)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._keep(0)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._keep(state.global_step)
        if state.global_step >= self.target:
            control.should_training_stop = True


def _copied(parts: Mapping[str, Any]) -> dict[str, Vector]:
    return {
        factor: {name: getattr(one, factor).detach().float().cpu().clone() for name, one in parts.items()}
        for factor in FACTORS
    }


def measure_gradients(given: Given, spec: GradientsSpec, kept: Kept) -> dict[str, Any]:
    """The facts of every method (`of_method`) by name.

    Memory: a model as in training, and on the CPU the gradients of A and B of every seed and 2 + updates times A and B.
    """
    return {name: of_method(name, given, spec, train, kept) for name, train in spec["runs"].items()}


def of_method(name: str, given: Given, spec: GradientsSpec, train: TrainSpec, kept: Kept) -> dict[str, Any]:
    """What the starts of all seeds give by one method.

    rows: of the batch of the gradients. gradients: for A and B `compared`. start_losses: on that batch, by seed.
    runs: the first updates of each start (`first_updates`); starts: by seed, the number of its run. Equal starts have
    one run, for nothing else differs.
    """
    found: list[First] = []
    runs: dict[str, dict[str, Any]] = {}
    starts, rows = [], 0
    for seed, (one, init) in enumerate(_starts(given.stored, spec, train, kept)):
        log.info("%s, seed %d of the start", name, seed)
        prepared = prepare(one, given.stored, given.data, init)
        batch = replace(prepared, examples=prepared.examples[: spec["rows"]])
        rows = len(batch.examples)
        found.append(gradients(batch, one, given, init))
        digest = factors.sha256(init)
        if digest not in runs:
            runs[digest] = first_updates(prepared, spec, one, given, init)
        starts.append(list(runs).index(digest))
    vectors = {factor: [first.gradients[factor] for first in found] for factor in FACTORS}
    return {
        "rows": rows,
        "gradients": {factor: compared(vectors[factor]) for factor in FACTORS},
        "start_losses": [first.loss for first in found],
        "starts": starts,
        "runs": list(runs.values()),
    }


def _starts(stored: ModelRecord, spec: GradientsSpec, train: TrainSpec, kept: Kept) -> Iterator[tuple[TrainSpec, Path]]:
    """The spec of the training and the folder of the start, for each seed; a folder is gone when the next is made."""
    assert train["init"]  # of a method with factors
    for seed in range(spec["seeds"]):
        started, init = time.perf_counter(), {**train["init"], "seed": seed}
        with TemporaryDirectory() as folder:
            place = Path(folder) / "start"
            (made,) = make.start_model(stored["path"], [init], kept)  # type: ignore[list-item]
            make.write(place, init, base_of(stored), made, started)  # type: ignore[arg-type]
            yield {**train, "init": init}, place  # type: ignore[typeddict-item]


def _trainer(prepared: Prepared, spec: TrainSpec, given: Given, init: Path, scratch: str) -> Any:
    made = made_from(spec, given.identity, init)
    share = split_batch(spec["settings"]["batch_size"], given.micro, 1)
    return trainers.build(prepared, spec, trainers.Scratch(Path(scratch), made), share, NEVER)


def gradients(batch: Prepared, spec: TrainSpec, given: Given, init: Path) -> First:
    """The gradients of A and B at the start, of the mean loss over all rows of a batch, not clipped; and that loss.

    The parts are left as they were.
    """
    once = {"batch_size": len(batch.examples), "steps": 1, "epochs": 1, "max_grad_norm": 0.0}
    alone: Any = {**spec, "settings": {**spec["settings"], **once}}
    with TemporaryDirectory() as scratch:
        trainer = _trainer(batch, alone, given, init, scratch)
        watch = Gradients(trainer.model)
        before = _copied(watch.parts)
        trainer.add_callback(watch)
        trainer.train()
    with torch.no_grad():
        for name, one in watch.parts.items():
            for factor in FACTORS:
                getattr(one, factor).copy_(before[factor][name])
                getattr(one, factor).grad = None
    return First(watch.found, trainer.state.log_history[0]["loss"])


def first_updates(
    prepared: Prepared, spec: GradientsSpec, train: TrainSpec, given: Given, init: Path
) -> dict[str, Any]:
    """The losses of the steps up to the target, each before its update, and how far A and B have come of their way.

    steps: that the schedule is made for, at least the target. progress: after each update from 0 on, see `progress`.
    """
    settings, target = train["settings"], spec["target"]
    epoch = math.ceil(len(prepared.examples) / settings["batch_size"])
    steps = settings["steps"] or math.ceil(settings["epochs"] * epoch)  # as the Trainer counts them
    if steps < target:
        train = {**train, "settings": {**settings, "steps": target}}
    with TemporaryDirectory() as scratch:
        trainer = _trainer(prepared, train, given, init, scratch)
        watch = Places(trainer.model, spec["updates"], target)
        trainer.add_callback(watch)
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "grad_norm" in entry]
    ways = {factor: [watch.kept[step][factor] for step in sorted(watch.kept)] for factor in FACTORS}
    return {"steps": max(steps, target), "losses": losses, **{key: progress(way) for key, way in ways.items()}}


def progress(way: list[Vector]) -> list[float | None]:
    """How far each place but the last has come from the first to the last, in percent: 100 <x - x0, d> / <d, d>.

    d is the way from the first to the last place: what leads elsewhere does not count. None where there is no way.
    """
    first, *_, last = way
    *shares, whole = (sum(_inner(place[name], first[name], last[name]) for name in first) for place in way)
    return [100 * share / whole if whole else None for share in shares]


def _inner(place: torch.Tensor, first: torch.Tensor, last: torch.Tensor) -> float:
    a, b = ((one - first).double().flatten() for one in (place, last))
    return (a @ b).item()


def compared(vectors: list[Vector]) -> dict[str, Any]:
    """Vectors of several seeds beside each other: norms, cosines of pairs, and their directions in two dimensions.

    cosines: (seeds, seeds), None with a zero vector. directions: (seeds, 2), each vector's part in the plane of the
    two largest principal directions of all (not centred), of length 1; [0, 0] for a zero vector. On each axis the
    largest place is positive. Which directions the paper projects on, it does not say.
    """
    gram = torch.zeros(len(vectors), len(vectors), dtype=torch.float64)
    for name in vectors[0]:
        rows = torch.stack([vector[name].flatten() for vector in vectors]).double()
        gram += rows @ rows.T
    norms = gram.diag().sqrt()
    values, axes = torch.linalg.eigh(gram)
    count = min(2, len(vectors))
    plane = (axes * values.clamp(min=0).sqrt())[:, -count:].flip(1)
    plane = plane * plane.gather(0, plane.abs().argmax(0, keepdim=True)).sign()
    length = plane.norm(dim=1, keepdim=True)
    plane = torch.where(length > 0, plane / length, torch.zeros_like(plane))
    cosines = gram / (norms[:, None] * norms)
    return {
        "norms": norms.tolist(),
        "cosines": [[one if one == one else None for one in row] for row in cosines.tolist()],
        "directions": torch.nn.functional.pad(plane, (0, 2 - count)).tolist(),
    }
