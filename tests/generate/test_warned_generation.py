"""The end of a job's time while answers are generated: the prompts at hand are kept, and the job goes on later."""

import signal
import subprocess
import sys

import pytest
from generated_cells import ITEMS, as_swept, items

from pissa_repro.runtime import paths, walltime
from pissa_repro.runtime.errors import Stopped
from pissa_repro.runtime.record import read_json
from pissa_repro.scoring import generations
from pissa_repro.stages import generate

SIZE = 5  # prompts of a batch


@pytest.fixture
def batch(fresh, tmp_path, monkeypatch):
    """The arguments of the stage for the cell's batch, its record, and where the cell's items are kept."""
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    results = tmp_path / "results"
    _, cell, argv = as_swept(fresh, results)
    kept = generations.place(paths.Cell(cell), "task", fresh.sweep.generate_spec(fresh.cell, "task"))
    out = tmp_path / "batch.json"
    return [*argv, "--out", str(out), "--batch-size", str(SIZE)], out, kept


def warned_after(monkeypatch, count):
    """The warning comes when the item of this number is added; the queue takes the job back. How often it was asked."""
    honest, asked = generations.Journal.add, []

    def add(self, lines):
        before = len(self.turns)
        honest(self, lines)
        if before < count <= len(self.turns):
            signal.raise_signal(signal.SIGUSR1)

    monkeypatch.setattr(generations.Journal, "add", add)
    monkeypatch.setattr(walltime, "requeue", lambda: asked.append(True))
    return asked


def test_a_warned_batch_keeps_what_it_has_and_goes_on(batch, monkeypatch):
    argv, out, kept = batch
    for number in (1, 2):  # in its second turn, too
        with monkeypatch.context() as patch, pytest.raises(Stopped) as stopped:
            asked = warned_after(patch, number * SIZE)
            generate.main(argv)
        assert stopped.value.number == signal.SIGUSR1 and asked == [True]
        assert len(items(kept)) == number * SIZE and not out.exists()
    generate.main(argv)
    found = items(kept)
    assert len(found) == len(set(found)) == ITEMS and not read_json(out)["refused"]
    assert len(generations.read(kept).runs) == 3


def test_a_warning_in_the_last_batch_stops_nothing(batch, monkeypatch):
    argv, out, kept = batch
    asked = warned_after(monkeypatch, ITEMS)
    generate.main(argv)
    assert not asked and len(items(kept)) == ITEMS and out.exists()


LATE = """
import signal, subprocess, sys, time
from pissa_repro.runtime import walltime
with walltime.Stop().listening(signal.SIGUSR1) as stop:
    with walltime.late():
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1)"])
        signal.raise_signal(signal.SIGUSR1)
        child.send_signal(signal.SIGUSR1)
        print(stop.number)
    print(stop.number == signal.SIGUSR1, child.wait())
"""


def test_a_process_that_is_started_late_does_not_end_by_the_warning():
    """An engine's workers: a program that is started has the usual way to end by a signal that its parent hears."""
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, encoding="utf-8")
    assert done.stdout.split() == ["0", "True", "0"], done.stderr
