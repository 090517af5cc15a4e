"""Weights shared among processes: the numbers, checkpoints and files are those of one process. On CPUs, by gloo."""

import re
import shutil
from datetime import timedelta

import pytest
import torch
from forked import trained
from helpers import Run, config, load_json, scored_rows
from safetensors.torch import load_file
from stage import says
from transformers import TrainingArguments

from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime.record import read_json, write_json
from pissa_repro.scoring import generations
from pissa_repro.training import trainer
from pissa_repro.training.how import How

STEPS, STOP, EVERY = 40, 25, 10
CELLS = {"full": ("full", "none"), "pissa": ("pissa", "none"), "qpissa": ("pissa", "nf4")}
HOOKED = ("adalora", "nf4")  # its hooks look at the parts in each step, and compare what is frozen
PROMPTS = [[0, 5, 9, 40], [0, 7, 7]]


def arguments(count: int, sharding: str) -> list[str]:
    """Two passes a step, so that gradients are summed over passes, too."""
    return ["--micro-batch-size", str(2 // count), "--checkpoint-steps", str(EVERY), "--sharding", sharding]


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_model, tiny_rows, tiny_gpt2):
    """All trainings of this module, in one process with its forks, by cell and kind; and what they logged.

    one: process. two: sharded over two. ddp: two, each with the whole model. again, alone: stopped when sharded, and
    gone on with in two, and in one.
    """
    folder, runs, jobs = tmp_path_factory.mktemp("sharded"), {}, []

    def add(cell: str, kind: str, count: int, sharding: str, model=tiny_model, **more):
        method, quant = {**CELLS, "hooked": HOOKED, "tied": CELLS["full"]}[cell]
        if (cell, kind) not in runs:
            more_of = {"tied": {"target_modules": ["c_attn"]}, "hooked": {"steps": 6}}.get(cell, {})
            more_of = {"steps": STEPS, "max_new_tokens": 24} | more_of
            runs[cell, kind] = Run(folder / f"{cell}-{kind}", model, tiny_rows, method, quant, **more_of)
            runs[cell, kind].init()
        jobs.append({"count": count, "argv": runs[cell, kind].train_argv(*arguments(count, sharding)), **more})

    for cell in CELLS:
        add(cell, "one", 1, "none")
        add(cell, "two", 2, "full")
    for cell in ("qpissa", "hooked"):
        add(cell, "ddp", 2, "none")
    add("hooked", "two", 2, "full")
    for cell in ("full", "qpissa"):
        add(cell, "again", 2, "full", fail_at=STOP)
        places = [str(folder / f"{cell}-{kind}" / "scratch") for kind in ("again", "alone")]
        add(cell, "alone", 1, "full", copy=places)
        add(cell, "again", 2, "full")
    tied = shutil.copytree(tiny_gpt2["hub"], folder / "tied")
    dropout = dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), 0.0)  # each process draws its own
    write_json(tied / "config.json", load_json(tied / "config.json") | dropout)
    for kind, count, sharding in (("one", 1, "none"), ("two", 2, "full")):
        add("tied", kind, count, sharding, tied)
    return runs, trained(folder, *jobs)


def weights(run) -> dict[str, torch.Tensor]:
    return {path.name: load_file(path) for path in sorted(run.trained.rglob("*.safetensors"))}


def losses(run) -> list[float]:
    return [row.loss for row in run.history()]


@pytest.mark.parametrize("cell", [*CELLS, "tied"])
def test_two_processes_that_share_the_weights_train_as_one(made, cell):
    one, two = (made[0][cell, kind] for kind in ("one", "two"))
    assert losses(two) == pytest.approx(losses(one), rel=1e-5) and len(losses(two)) == STEPS
    assert [row.grad_norm for row in two.history()] == pytest.approx([row.grad_norm for row in one.history()], rel=1e-3)
    first, second = (read_json(run.record) for run in (one, two))
    assert second["sharding"] == "full" and "sharding" not in first
    assert second["batch"]["processes"] == 2
    same = ("spec", "trainable_parameters", "dtypes", "steps", "start_up")
    assert {key: second[key] for key in same} == {key: first[key] for key in same}
    assert second["update"] == pytest.approx(first["update"], rel=1e-3)


@pytest.mark.parametrize("cell", [*CELLS, "tied"])
def test_what_they_leave_is_what_one_leaves(made, cell):
    """The same files, names and dtypes: no second head of a model whose head is its embedding, no other class."""
    one, two = (made[0][cell, kind] for kind in ("one", "two"))
    assert {p.relative_to(one.trained) for p in one.trained.rglob("*")} == {
        p.relative_to(two.trained) for p in two.trained.rglob("*")
    }
    for name, tensors in weights(one).items():
        others = weights(two)[name]
        assert {k: (t.shape, t.dtype) for k, t in tensors.items()} == {k: (t.shape, t.dtype) for k, t in others.items()}
        assert all((tensors[key] - others[key]).norm() <= 1e-3 * tensors[key].norm() + 1e-6 for key in tensors)
    for path in one.trained.glob("config.json"):
        assert read_json(two.trained / path.name) == read_json(path)
    assert not two.scratch.exists()


@pytest.mark.parametrize("cell", CELLS)
def test_merged_the_models_are_the_same(made, cell):
    one, two = (made[0][cell, kind].merged(PROMPTS).logits for kind in ("one", "two"))
    assert (one - two).norm() < 1e-3 * one.norm()


@pytest.mark.parametrize("cell", CELLS)
def test_scored_they_say_the_same(made, cell, tmp_path):
    """Greedy texts of 12 prompts, from the stages that generate and score; some last digits of their weights differ."""
    records, said = [], []
    for run in (made[0][cell, kind] for kind in ("one", "two")):
        run.rows = scored_rows(tmp_path, 12)
        records.append(run.evaluate("--batch-size", "12"))
        said.append(generations.read(run.generated).turns)
    assert said[0] == said[1] and all(text for (text,) in said[0].values())
    assert records[0]["metrics"] == records[1]["metrics"]
    assert records[0]["trained_sha256"] != records[1]["trained_sha256"]


@pytest.mark.parametrize("cell", ["qpissa", "hooked"])
def test_what_trains_of_an_adapter_keeps_every_bit(made, cell):
    """It is averaged as without sharding; the packed base is put together from bytes."""
    plain, shared = (made[0][cell, kind] for kind in ("ddp", "two"))
    assert shared.steps.read_text(encoding="utf-8") == plain.steps.read_text(encoding="utf-8")
    assert (shared.factors / "factors.safetensors").read_bytes() == (plain.factors / "factors.safetensors").read_bytes()


@pytest.mark.parametrize("cell", ["full", "qpissa"])
def test_a_stopped_training_goes_on_in_two_processes_and_in_one(made, cell):
    """A checkpoint is a plain one: it holds the weights once, and says nothing of how many wrote it."""
    whole, again, alone = (made[0][cell, kind] for kind in ("two", "again", "alone"))
    assert again.steps.read_text(encoding="utf-8") == whole.steps.read_text(encoding="utf-8")
    assert losses(alone) == pytest.approx(losses(whole), rel=1e-5)
    records = [read_json(run.record) for run in (again, alone)]
    assert [record["resumed_from"] for record in records] == [STOP // EVERY * EVERY] * 2
    assert ["sharding" in record for record in records] == [True, False]


def test_each_process_holds_its_half(made):
    """What runs is asked of the model: where nothing is shared, accelerate would train all the same."""
    found = re.findall(r"holds about (\S+) of (\S+) MB", made[1])
    assert len(found) >= 2 * len(CELLS)
    for held, of in found:
        assert 0.45 < float(held) / float(of) < 0.6


@pytest.mark.parametrize("gpus", [None, 0, 1])
def test_one_card_has_nobody_to_share_with(tiny_model, tiny_rows, gpus):
    """Said in the dry run."""
    given = config(tiny_model, tiny_rows, "full", "none")
    given["models"]["tiny"] |= {"sharding": "full", **({} if gpus is None else {"gpus": gpus})}
    says(lambda: Sweep(given), "config.models.tiny.sharding", f"gpus is {gpus or 0}", "2 or more")
    given["models"]["tiny"]["gpus"] = 2
    (cell,) = Sweep(given).cells.values()
    assert "sharding" not in str(Sweep(given).train_spec(cell)), "how it runs is no part of what it is"


def test_processes_wait_for_the_one_that_writes_a_large_checkpoint(tiny_model, tiny_rows, tmp_path):
    """One writes what all hold: of a 70B model more than half an hour, after which torch would end the others."""
    (cell,) = (sweep := Sweep(config(tiny_model, tiny_rows, "full", "none"))).cells.values()
    options = trainer._options(sweep.train_spec(cell), EVERY, How())
    assert TrainingArguments(str(tmp_path), **options).ddp_timeout_delta >= timedelta(hours=6)
