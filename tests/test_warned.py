"""The end of a job's time, told in advance: a whole checkpoint, an exit, and never the look of a finished training."""

import os
import signal
import subprocess
import sys

import pytest
from helpers import Run
from stage import says
from transformers import Trainer

from pissa_repro.plan.config import ROOT
from pissa_repro.runtime.errors import Stopped
from pissa_repro.stages import train
from pissa_repro.training.trainer import WHOLE, Watch

STEPS, EVERY = 8, 3  # twelve rows in batches of five: three steps an epoch
SIGNALS = [signal.SIGUSR1, signal.SIGTERM]


@pytest.fixture(autouse=True)
def no_job(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)


@pytest.fixture
def cell(tmp_path, tiny_model, tiny_rows):
    return made(tmp_path, tiny_model, tiny_rows)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny_model, tiny_rows):
    """The same cell, trained without a break."""
    run = made(tmp_path_factory.mktemp("whole"), tiny_model, tiny_rows)
    train.main(argv(run))
    return run


def made(folder, model, rows):
    run = Run(folder, model, rows, "pissa", steps=STEPS, batch_size=5, learning_rate=5e-3, dropout=0.1)
    run.init()
    return run


def argv(run):
    return run.train_argv("--checkpoint-steps", str(EVERY), "--micro-batch-size", "2")


def after(step, monkeypatch, happens):
    """Something happens at the end of a step, before the training looks whether it is to stop."""
    honest = Watch.on_step_end

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == step:
            happens(control)
        return honest(self, args, state, control, **kwargs)

    monkeypatch.setattr(Watch, "on_step_end", on_step_end)


def results(run):
    files = {path.name: path.read_bytes() for path in run.trained.rglob("*.safetensors")}
    return files | {"steps": run.steps.read_bytes()}


@pytest.mark.parametrize("number", SIGNALS)
def test_a_warned_training_goes_on_where_it_stopped_and_changes_no_bit(cell, whole, monkeypatch, number):
    """Pitfall 18; twice in a row, as where a job's time is shorter than a training."""
    for step in (4, 5):
        with monkeypatch.context() as patch, pytest.raises(Stopped) as stopped:
            after(step, patch, lambda control: signal.raise_signal(number))
            train.main(argv(cell))
        assert stopped.value.number == number
        assert (cell.scratch / f"checkpoint-{step}" / WHOLE).is_file()
        assert not cell.record.exists() and not cell.steps.exists() and not cell.trained.exists()
    assert cell.train("--checkpoint-steps", str(EVERY), "--micro-batch-size", "2")["resumed_from"] == 5
    assert results(cell) == results(whole)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_warning_while_a_checkpoint_is_written_spoils_nothing(cell, whole, monkeypatch, number):
    """The checkpoint is written to its end, and the training stops a step later, with another."""
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        saved = Trainer._save_checkpoint

        def save(self, *args):
            if self.state.global_step == EVERY:
                signal.raise_signal(number)
            return saved(self, *args)

        patch.setattr(Trainer, "_save_checkpoint", save)
        train.main(argv(cell))
    assert sorted(path.parent.name for path in cell.scratch.rglob(WHOLE)) == [f"checkpoint-{EVERY + n}" for n in (0, 1)]
    assert cell.train("--checkpoint-steps", str(EVERY), "--micro-batch-size", "2")["resumed_from"] == EVERY + 1
    assert results(cell) == results(whole)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_warning_at_the_last_step_stops_nothing(cell, whole, monkeypatch, number):
    after(STEPS, monkeypatch, lambda control: signal.raise_signal(number))
    train.main(argv(cell))
    assert results(cell) == results(whole)


def test_a_training_that_ended_early_is_no_finished_one(cell, monkeypatch):
    """transformers ends `train()` in the same way, whoever asked for it."""
    after(4, monkeypatch, lambda control: setattr(control, "should_training_stop", True))
    says(lambda: train.main(argv(cell)), "step 4", f"of {STEPS}")
    assert not cell.record.exists() and not cell.steps.exists() and not cell.trained.exists()


TOGETHER = """
import os, torch
from pissa_repro.runtime.walltime import Stop
from pissa_repro.training.stopping import asked
torch.distributed.init_process_group("gloo")
stop, cpu = Stop(), torch.device("cpu")
before = asked(stop, cpu)
stop.number = 10 * int(os.environ["RANK"])
print(f"{before} {asked(stop, cpu)} {stop.number}\\n", end="", flush=True)
torch.distributed.destroy_process_group()
"""


def test_all_processes_stop_where_one_is_warned(tmp_path):
    """One alone would wait for the others in the next step, for ever."""
    (tmp_path / "together.py").write_text(TOGETHER, encoding="utf-8")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launch, tmp_path / "together.py"], cwd=ROOT, capture_output=True, encoding="utf-8",
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout.splitlines() == ["False True 10"] * 2, done.stderr[-2000:]
