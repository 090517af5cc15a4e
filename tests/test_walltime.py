"""The warning before a job's time is up: it is heard, passed on, or ignored, and the job goes back into the queue."""

import logging
import os
import signal
import subprocess
import sys

import pytest

from pissa_repro.plan.config import ROOT
from pissa_repro.runtime import walltime
from pissa_repro.runtime.errors import Stopped, run_stage


def test_the_handlers_of_before_come_back():
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    with walltime.Stop().listening(signal.SIGUSR1) as stop:
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR1)
        assert stop.number == signal.SIGUSR1
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_the_exit_code_names_the_signal(number, capsys):
    def main():
        raise Stopped(number)

    with pytest.raises(SystemExit) as ended:
        run_stage(main)
    assert ended.value.code == 128 + number and "run the same command to go on" in capsys.readouterr().err


def test_outside_of_a_job_there_is_no_queue(monkeypatch, caplog):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
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
