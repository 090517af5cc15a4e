"""Every method in a whole training, found by scanning; the few that are killed are chosen by what they declare."""

import math

import pytest
import torch
from helpers import Run, declared_entries
from promises import begun, summarizes
from test_resume import EVERY, arguments, assert_the_same, interrupt

from pissa_repro import methods
from pissa_repro.model import factors
from pissa_repro.runtime.record import read_json
from pissa_repro.starts.error import measure_stored

PROMPTS = [[3, 40, 17, 9], [250, 8, 77]]
HOOKS = [name for name in vars(methods.Training) if not name.startswith("_")]


def first(name, *quants):
    """The first of these quantizations that a method does not refuse."""
    return next(quant for quant in quants if not methods.refusal(name, quant))


def cell(folder, model, rows, name, quant, **changes):
    known = {"statistics": {"rows": 9}} if methods.load(name).STATISTICS else {}
    return Run(folder, model, rows, name, quant, learning_rate=5e-3, **known, **changes)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A folder of statistics that all methods share."""
    return tmp_path_factory.mktemp("statistics")


@pytest.mark.parametrize("name", methods.names())
def test_a_method_trains_and_merges(tmp_path, shared, tiny_model, tiny_rows, name):
    """On a quantized base where that makes sense; a core that starts at zero lets A and B move in the second step."""
    quant = first(name, "nf4", "none")
    run = cell(tmp_path, tiny_model, tiny_rows, name, quant, steps=2, warmup_ratio=0)
    run.init(shared)
    record = run.train()
    assert run.merged(PROMPTS).checks["training_effect"] > 0
    if not methods.has_factors(name):
        return
    initial = factors.load(run.start, read_json(run.model))
    last = factors.load_trained(run.trained, initial)
    options, rank = dict(run.init_spec["options"]), run.init_spec["rank"]
    if not summarizes(name):
        assert record["trainable_parameters"] == declared_entries(name, initial, rank, options)
    for part in methods.PARTS:
        before, after = getattr(initial, part), getattr(last, part)
        moved = {not torch.equal(before[module], after[module]) for module in before}
        assert moved <= {part in initial.trained}, f"{part} of modules moved or not: {moved}"
    errors = measure_stored(read_json(run.model), run.start, run.trained, [quant])
    assert all(math.isfinite(facts["total"]["nuclear"]) for facts in errors.values())


def declared(name):
    """What could be lost by a kill: the parts beside A and B, and the hooks that a method has."""
    walk = begun(name, first(name, "none", "nf4"))
    hooks = {hook for hook in HOOKS if getattr(type(walk.training), hook) is not getattr(methods.Training, hook)}
    hooks -= {"optimizer"} if type(walk.optimizer) is torch.optim.AdamW else set()
    parts = {"core"} if walk.start.core is not None else set()
    return parts | hooks | ({"frozen"} if set(walk.start.trains) != set(walk.copies()) else set())


def covering():
    """A few methods, in a fixed order, that declare whatever any declares."""
    everything = {name: declared(name) for name in methods.names() if methods.has_factors(name)}
    left, chosen = set().union(*everything.values()), []
    while left:
        chosen.append(max(everything, key=lambda name: len(everything[name] & left)))
        left -= everything[chosen[-1]]
    return chosen


def test_the_methods_that_are_killed_have_all_that_could_be_lost():
    assert {"core", "frozen", "penalty", "optimizer", "state", "settle"} <= set().union(*map(declared, covering()))


@pytest.mark.parametrize("name", covering())
def test_a_kill_changes_no_bit(tmp_path, monkeypatch, shared, tiny_model, tiny_rows, name):
    """Twelve rows in batches of five, in micro-batches of two; killed while step 6 of 8 is written."""
    quant, folders = first(name, "none", "nf4"), (tmp_path / "whole", tmp_path / "killed")
    whole, killed = (cell(f, tiny_model, tiny_rows, name, quant, steps=8, batch_size=5) for f in folders)
    for run in (whole, killed):
        run.init(shared)
    whole.train(*arguments())
    interrupt(killed, monkeypatch, at=2 * EVERY)
    assert killed.train(*arguments())["resumed_from"] == EVERY
    assert_the_same(whole, killed)
