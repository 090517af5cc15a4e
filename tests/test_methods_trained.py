"""Every method that adds to the training trains what its file says, and survives a kill. None is named here."""

import pytest
from helpers import Run, declared_entries
from test_resume import EVERY, arguments, assert_the_same, interrupt

from pissa_repro import methods, quantizers
from pissa_repro.model import factors
from pissa_repro.runtime.record import read_json

ADDING = [
    name for name in methods.names() if methods.load(name).TRAINING is not methods.Training
    and not methods.load(name).STATISTICS
]  # fmt: skip


@pytest.mark.parametrize("name", ADDING)
def test_what_trains_is_what_is_declared_and_a_kill_changes_no_bit(tmp_path, monkeypatch, tiny_model, tiny_rows, name):
    """Twelve rows in batches of five, in micro-batches of two; killed while step 6 of 8 is written."""
    quant = next(quant for quant in ("none", *quantizers.names()) if not methods.refusal(name, quant))
    whole, killed = (
        Run(tmp_path / folder, tiny_model, tiny_rows, name, quant, steps=8, batch_size=5, learning_rate=5e-3)
        for folder in ("whole", "killed")
    )
    for run in (whole, killed):
        run.init()
    record, rank = whole.train(*arguments()), whole.init_spec["rank"]
    initial = factors.load(whole.start, read_json(whole.model))
    assert record["trainable_parameters"] == declared_entries(name, initial, rank, dict(whole.init_spec["options"]))
    interrupt(killed, monkeypatch, at=2 * EVERY)
    assert killed.train(*arguments())["resumed_from"] == EVERY
    assert_the_same(whole, killed)
