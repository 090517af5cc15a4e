"""The end of a job's time, told in advance: a whole checkpoint, an exit, and never the look of a finished training."""

import logging
import os
import signal
import subprocess
import sys

import pytest
from helpers import Run
from stage import says

from pissa_repro.plan.config import ROOT
from pissa_repro.runtime import walltime
from pissa_repro.runtime.errors import Stopped, run_stage
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
def test_a_warning_at_the_last_step_stops_nothing(cell, whole, monkeypatch, number):
    after(STEPS, monkeypatch, lambda control: signal.raise_signal(number))
    train.main(argv(cell))
    assert results(cell) == results(whole)


def test_a_training_that_ended_early_is_no_finished_one(cell, monkeypatch):
    """transformers ends `train()` in the same way, whoever asked for it."""
    after(4, monkeypatch, lambda control: setattr(control, "should_training_stop", True))
    says(lambda: train.main(argv(cell)), "step 4", f"of {STEPS}")
    assert not cell.record.exists() and not cell.steps.exists() and not cell.trained.exists()


def test_the_handlers_of_before_come_back(whole):
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    with walltime.Stop().listening(signal.SIGUSR1) as stop:
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR1)
        assert stop.number == signal.SIGUSR1
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


@pytest.mark.parametrize("number", SIGNALS)
def test_the_exit_code_names_the_signal(number, capsys):
    def main():
        raise Stopped(number)

    with pytest.raises(SystemExit) as ended:
        run_stage(main)
    assert ended.value.code == 128 + number and "run the same command to go on" in capsys.readouterr().err


def test_outside_of_a_job_there_is_no_queue(caplog):
    assert not walltime.requeue() and not caplog.records


def test_a_queue_that_takes_no_job_back_is_told(monkeypatch, caplog):
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("PATH", "/nowhere")
    with caplog.at_level(logging.WARNING):
        assert not walltime.requeue()
    assert "job 77" in caplog.text and "scontrol" in caplog.text


LISTENS = """
import os, signal, time
from pissa_repro.runtime import walltime
with walltime.Stop().listening(signal.SIGUSR1) as stop:
    print("ready", flush=True)
    while not stop.number:
        time.sleep(0.01)
print("heard", flush=True)
"""
PASSES = """
import subprocess, sys
from pissa_repro.runtime import walltime
walltime.pass_on()
apart = "import os, sys; os.setsid(); os.execv(sys.argv[1], sys.argv[1:])"
shell = f"trap '' USR1; {sys.executable} -c '{apart}' {sys.executable} -c \\"$0\\"; echo end"
print(subprocess.run(["bash", "-c", shell, sys.argv[1]]).returncode, flush=True)
"""


def test_a_warning_reaches_a_training_below_the_process_that_gets_it():
    """As in a job: Snakemake gets it, a shell is in between, and the training may have a session of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", PASSES, LISTENS], cwd=ROOT, stdout=subprocess.PIPE, encoding="utf-8"
    )
    assert process.stdout.readline() == "ready\n"
    os.kill(process.pid, signal.SIGUSR1)
    assert process.stdout.read().split() == ["heard", "end", "0"] and process.wait() == 0


def test_what_does_not_listen_lives_on():
    code = "from pissa_repro.runtime import walltime; walltime.ignored(); import os; os.kill(os.getpid(), 10); print(1)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).stdout == b"1\n"
