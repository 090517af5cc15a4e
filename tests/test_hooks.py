"""Hooks of a method in training: each is what a loop of plain torch does, on the same start, data and order."""

import os
import shutil
import subprocess
import sys

import pytest
import torch
from helpers import Run
from plugged import thrown
from safetensors.torch import load_file
from test_recipe import own_batches, own_loss
from test_resume import arguments, assert_the_same, interrupt

from pissa_repro.model import factors
from pissa_repro.plan.config import ROOT
from pissa_repro.runtime.record import read_json
from pissa_repro.training import cell, trainer

STEPS, BATCH, RATE, CLIP = 5, 5, 5e-3, 0.03
EMPTY = "class Empty(Training):\n    pass\n\n\nTRAINING = Empty\n"
RATES = """
class Rates(Training):
    def rates(self):
        return {"B": 4.0}


TRAINING = Rates
"""
PENALTY = """
class Penalty(Training):
    def penalty(self, modules):
        return 0.1 * sum((parts.A @ parts.A.T).pow(2).sum() for parts in modules.values())


TRAINING = Penalty
"""
CHANGES = '''
class Changes(Training):
    """A running sum of the gradients of A, and parts that shrink."""

    def __init__(self, options):
        super().__init__(options)
        self.sums = {}

    def adjust(self, modules, step, steps):
        for name, parts in modules.items():
            self.sums[name] = 0.5 * self.sums.get(name, 0) + parts.A.grad
            parts.A.grad.add_(self.sums[name], alpha=step / steps)

    def settle(self, modules, step, steps):
        for parts in modules.values():
            parts.B[:, 0] *= 0.5
            parts.B[:, 1] -= parts.B.grad[:, 1]

    def state(self):
        return self.sums

    def restore(self, state):
        self.sums = dict(state)


TRAINING = Changes
'''
OWN = """
class Own(Training):
    def optimizer(self, modules, groups, adam):
        import torch

        return torch.optim.SGD(groups, lr=adam["lr"], momentum=0.9)


TRAINING = Own
"""
ALL = f"{RATES}{PENALTY}{CHANGES}\n\nclass All(Rates, Penalty, Changes):\n    pass\n\n\nTRAINING = All\n"


@pytest.fixture
def make(monkeypatch, tmp_path, tiny_model, tiny_rows):
    """A function that makes the start of a cell whose method adds this to the training."""

    def made(text, name="run", **changes):
        method, settings = thrown(monkeypatch, tmp_path, text), {"steps": STEPS, "batch_size": BATCH, **changes}
        run = Run(tmp_path / name, tiny_model, tiny_rows, method, learning_rate=RATE, max_grad_norm=CLIP, **settings)
        run.init()
        return run

    return made


def by_hand(run, groups, optimizer=torch.optim.AdamW, penalty=None, adjust=None, settle=None, decay=0.0):
    """(loss, norm of the task's gradient) of every step, and the trained tensors; constant rate, no weight decay.

    groups: times how much the rate is, by the letter of a part. The hooks are given {name: tensor}.
    """
    torch.manual_seed(0)
    prepared = run.prepare()
    model = prepared.model.train()
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    rates = [{"params": [p for n, p in named.items() if f"lora_{x}." in n], "lr": RATE * rate} for x, rate in groups]
    made = optimizer(rates, **({"weight_decay": decay} if optimizer is torch.optim.AdamW else {"momentum": 0.9}))
    rows = [(example["input_ids"], example["labels"]) for example in prepared.examples]
    batches, history = own_batches(len(rows), BATCH, 0), []
    for step in range(1, STEPS + 1):
        loss = own_loss(model, [rows[i] for i in next(batches)], 0)
        made.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(named.values(), float("inf"))
        if penalty:
            penalty(named).backward()
        with torch.no_grad():
            if adjust:
                adjust(named, step)
            torch.nn.utils.clip_grad_norm_(named.values(), CLIP)
            made.step()
            if settle:
                settle(named)
        history.append((loss.item(), norm.item()))
    return history, {name.replace(".default", ""): p.detach() for name, p in named.items()}


def penalty(named):
    return 0.1 * sum((p @ p.T).pow(2).sum() for name, p in named.items() if "lora_A" in name)


def changes():
    sums = {}

    def adjust(named, step):
        for name, p in named.items():
            if "lora_A" in name:
                sums[name] = 0.5 * sums.get(name, 0) + p.grad
                p.grad += step / STEPS * sums[name]

    def settle(named):
        for name, p in named.items():
            if "lora_B" in name:
                p[:, 0] *= 0.5
                p[:, 1] -= p.grad[:, 1]

    return {"adjust": adjust, "settle": settle}


EVEN, UNEVEN = [("A", 1), ("B", 1)], [("A", 1), ("B", 4)]
LOOPS = {  # a hook alone is in the tests of the methods that have it
    "all": (ALL, lambda: {"groups": UNEVEN, "penalty": penalty, **changes(), "decay": 0.5}),
    "optimizer": (OWN, lambda: {"groups": EVEN, "optimizer": torch.optim.SGD}),
}


@pytest.mark.parametrize("name", LOOPS)
def test_a_hook_does_what_a_plain_loop_does(make, name):
    """Twelve rows in batches of five, in micro-batches of two: 3, 3 and 1 passes a step. Clipping acts."""
    text, loop = LOOPS[name]
    run = make(text, schedule="constant", warmup_ratio=0, weight_decay=loop().get("decay", 0))
    run.train("--micro-batch-size", "2")
    history, wanted = by_hand(run, **loop())
    found = load_file(run.factors / factors.FACTORS)
    start = load_file(run.start / factors.FACTORS)
    assert found.keys() == wanted.keys() == start.keys() and max(norm for _, norm in history) > CLIP
    for row, (loss, norm) in zip(run.history(), history, strict=True):
        assert (row.loss, row.grad_norm) == pytest.approx((loss, norm), rel=1e-4)
        assert row.learning_rate == pytest.approx(RATE), "the recipe's rate is logged, whatever the parts'"
    moved = {key: (wanted[key] - start[key]).norm() for key in wanted}
    assert all(moved.values())
    assert all((found[key] - wanted[key]).norm() < 1e-4 * moved[key] for key in wanted)


def test_hooks_that_do_nothing_change_no_bit(make):
    """Clipping, groups and the optimizer are then here, and not in the Trainer."""
    idle, without = make(EMPTY, "idle", weight_decay=0.1), make("", "without", weight_decay=0.1)
    found = []
    for run in (idle, without):
        run.train("--micro-batch-size", "2")
        found.append((run.steps.read_text(encoding="utf-8"), (run.factors / factors.FACTORS).read_bytes()))
    assert found[0] == found[1]


def test_a_kill_changes_no_bit(make, monkeypatch):
    """What the hooks keep comes back, and the groups meet their own state; on a rounded base."""
    whole, killed = (make(ALL, name, steps=8, dtype="bfloat16") for name in ("whole", "killed"))
    assert whole.train(*arguments())["dtypes"] == {"trained": ["float32"], "frozen": ["bfloat16"]}
    interrupt(killed, monkeypatch, at=6)
    assert killed.train(*arguments())["resumed_from"] == 3
    assert_the_same(whole, killed)


def test_what_is_no_part_keeps_the_recipes_rate(make):
    """DoRA's magnitudes; the groups of the recipe come first, and weight decay stays with its groups."""
    run = make(RATES, lora={"use_dora": True}, weight_decay=0.1)
    scratch = trainer.Scratch(run.scratch, {"spec": run.spec})
    built = trainer.build(run.prepare(), run.spec, scratch, cell.Share(5, 1), 50)
    kinds = {p: name.split("lora_")[1].split(".")[0] for name, p in built.model.named_parameters() if "lora_" in name}
    found = [
        (group["lr"] / RATE, group["weight_decay"], {kinds[p] for p in group["params"]})
        for group in built.optimizer.param_groups
    ]
    assert found == [(1.0, 0.1, {"A", "magnitude_vector"}), (1.0, 0.0, set()), (4.0, 0.1, {"B"})]


def test_two_processes_train_as_one(make, tmp_path):
    """The penalty is added once, and what the hooks see is averaged; the checkpoints hold the state."""
    one, two = (make(ALL, name, batch_size=4) for name in ("one", "two"))
    one.train("--micro-batch-size", "2")
    copy = tmp_path / "checkout" / "pissa_repro"
    shutil.copytree(ROOT / "pissa_repro", copy, ignore=shutil.ignore_patterns("__pycache__", "methods"))
    shutil.copytree(tmp_path / "methods", copy / "methods")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    argv = two.train_argv("--micro-batch-size", "2", "--checkpoint-steps", "3")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(copy.parent)}
    command = [*launch, "pissa_repro.stages.train", *argv]
    subprocess.run(command, cwd=copy.parent, env=environment, check=True, timeout=300)
    assert read_json(two.record)["batch"]["processes"] == 2 and not two.scratch.exists()
    for first, second in zip(one.history(), two.history(), strict=True):
        assert (second.loss, second.grad_norm) == pytest.approx((first.loss, first.grad_norm), rel=1e-4)
    start, alone, both = (load_file(folder / factors.FACTORS) for folder in (one.start, one.factors, two.factors))
    assert all((alone[key] - both[key]).norm() < 1e-3 * (alone[key] - start[key]).norm() for key in start)
