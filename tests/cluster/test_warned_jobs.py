"""A job whose time ends before its work, in a Slurm that runs: it is warned, goes back into the queue, and goes on."""

import shlex
import sys
from pathlib import Path

import pytest

from pissa_repro.plan.config import ROOT
from pissa_repro.runtime.record import read_json

# Slurm lets a job that goes back into the queue wait for two minutes, and revokes what begins within the same second.
SOON = "StartTime=now+2"
LISTENS = """
import os, signal, sys, time
from pathlib import Path
from pissa_repro.runtime import walltime
attempt = Path(sys.argv[1])
first = not attempt.exists()
attempt.touch()
with walltime.Stop().listening(signal.SIGUSR1) as stop:
    while first and not stop.number:
        time.sleep(0.1)
if first:
    sys.exit(0 if walltime.requeue() else 7)
"""


def submitted(slurm, folder: Path, *command: str, options: tuple[str, ...] = ()) -> str:
    """The number of a job that runs a command of this Python; its words go to `said`."""
    return slurm.submit(
        shlex.join([sys.executable, *command]), "--requeue", "--mem=1000", f"--chdir={ROOT}",
        f"--output={folder / 'said'}", "--open-mode=append", f"--export=ALL,PYTHONPATH={ROOT}", *options,
    )  # fmt: skip


def goes_on(slurm, job: str) -> None:
    """Wait until the job is in the queue again, let it begin, and wait for its end."""
    slurm.until(lambda: slurm.job(job)["Restarts"] == "1" and slurm.state(job) == "PENDING", "job in the queue again")
    slurm.run("scontrol", "update", f"jobid={job}", SOON)
    slurm.until(lambda: slurm.state(job) not in ("PENDING", "RUNNING", "COMPLETING"), "end of the job")
    assert slurm.state(job) == "COMPLETED"


def test_slurm_warns_the_process_that_listens_before_the_walltime(slurm, tmp_path):
    """The signal of the rule `train`. Slurm may send it a minute earlier; one before the step begins is lost."""
    job = submitted(slurm, tmp_path, "-c", LISTENS, str(tmp_path / "begun"), options=("--time=3", "--signal=USR1@60"))
    goes_on(slurm, job)


def test_a_training_that_is_warned_goes_on_in_its_next_turn(slurm, tmp_path, tiny_model, tiny_rows):
    """Not in its own time: `scancel --signal` is what a walltime's warning is to the job."""
    pytest.importorskip("torch")
    from helpers import Run

    run = Run(tmp_path, tiny_model, tiny_rows, "lora", steps=400, batch_size=4)
    run.init()
    argv = run.train_argv("--checkpoint-steps", "20", "--micro-batch-size", "4")
    job = submitted(slurm, tmp_path, "-m", "pissa_repro.stages.train", *argv)
    slurm.until(lambda: (run.scratch / "checkpoint-20").exists(), "checkpoint")
    slurm.run("scancel", "--signal=USR1", job)
    slurm.until(lambda: slurm.state(job) == "PENDING", "job in the queue again")
    assert not run.record.exists() and not run.trained.exists() and not run.steps.exists()
    goes_on(slurm, job)
    record, said = read_json(run.record), (tmp_path / "said").read_text(encoding="utf-8")
    assert record["steps"] == 400 and record["resumed_from"] >= 20
    assert f"stopped after step {record['resumed_from']} of 400" in said, "what the first try said is kept"
    assert f"resuming from step {record['resumed_from']}" in said


def test_a_job_that_may_not_go_back_is_told_so(slurm, tmp_path):
    job = submitted(slurm, tmp_path, "-c", LISTENS, str(tmp_path / "begun"), options=("--no-requeue",))
    slurm.until(lambda: (tmp_path / "begun").exists(), "running job")
    slurm.until(lambda: warned(slurm, job), "end of the job")
    assert slurm.job(job)["ExitCode"].startswith("7")
    assert f"job {job} cannot go back into the queue" in (tmp_path / "said").read_text(encoding="utf-8")


def warned(slurm, job: str) -> bool:
    """Warn the job, which may not listen yet; whether it has ended."""
    if slurm.state(job) == "RUNNING":
        slurm.run("scancel", "--signal=USR1", job)
    return slurm.state(job) == "FAILED"
