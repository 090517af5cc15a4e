"""Stages that a process with their libraries forks for: they are what they would be by themselves."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pissa_repro.plan.config import ROOT
from pissa_repro.runtime import preloaded
from pissa_repro.runtime.paths import PRELOADED

pytestmark = pytest.mark.skipif(not preloaded.possible(), reason="forks are waited for on Linux alone")
COMMAND = f"exec {sys.executable}"
STAGE = """
import os, signal, sys, time
from pissa_repro.runtime.errors import UserError, run_stage

def main():
    imported = "wave" in sys.modules
    print(os.getpid(), os.getcwd(), sys.argv[1:], os.environ.get("WORD"), __spec__.name, imported, flush=True)
    if "wrong" in sys.argv:
        raise UserError("no such thing")
    if "hears" in sys.argv:
        signal.signal(signal.SIGUSR1, lambda *_: sys.exit(7))
    if "waits" in sys.argv:
        print("ready", flush=True)
        time.sleep(120)

if __name__ == "__main__":
    run_stage(main)
"""


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """Start the stage, with the test's arguments. The process that waits has imported `wave`, which no stage does."""
    (tmp_path / "shown.py").write_text(STAGE, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}", "WORD": "same"}
    monkeypatch.setenv(PRELOADED, "")  # what `start` sets is taken back
    preloaded.start(COMMAND, environment, ["wave"])
    environment[PRELOADED] = os.environ[PRELOADED]

    def started(*arguments: str, **options) -> subprocess.Popen:
        own = {"env": environment, "cwd": tmp_path} | options
        command = [sys.executable, "-m", "shown", *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", **own)

    started.environment, started.waits = environment, int(environment[PRELOADED].partition(":")[0])
    yield started
    with contextlib.suppress(ProcessLookupError):
        os.kill(started.waits, signal.SIGKILL)


def lives(process: int) -> bool:
    """Whether it runs: one that has ended may wait for its parent to hear of it."""
    try:
        state = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def gone(process: int) -> bool:
    deadline = time.monotonic() + 20
    while lives(process) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not lives(process)


def waiting(process: subprocess.Popen) -> int:
    """The pid of the process that does the work, once it waits."""
    told = process.stdout.readline().split()
    assert process.stdout.readline() == "ready\n"
    return int(told[0])


def test_a_fork_has_what_the_stage_was_started_with(stage, tmp_path):
    process = stage("one", "2 3")
    said, errors = process.communicate()
    pid, rest = said.split(" ", 1)
    assert int(pid) != process.pid and rest == f"{tmp_path} ['one', '2 3'] same shown True\n"
    assert (process.returncode, errors) == (0, "")


def test_errors_and_exit_codes_are_those_of_the_stage(stage):
    process = stage("wrong")
    assert (process.communicate()[1], process.returncode) == ("error: no such thing\n", 1)


def test_another_environment_has_a_process_of_its_own(stage):
    """A library may have read it while it was imported."""
    process = stage("one", env={**stage.environment, "OMP_NUM_THREADS": "3"})
    said, _ = process.communicate()
    assert int(said.split()[0]) == process.pid and said.endswith("False\n")


def test_temporary_folders_may_differ(stage, tmp_path):
    process = stage("one", env={**stage.environment, "TMPDIR": str(tmp_path)})
    assert process.communicate()[0].endswith("True\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 7)])
def test_signals_reach_the_fork(stage, number, code):
    process = stage("hears", "waits")
    fork = waiting(process)
    process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == code and gone(fork)
    assert ("interrupted" in errors) == (number != signal.SIGUSR1)


def test_a_fork_ends_with_the_stage_that_was_killed(stage):
    process = stage("waits")
    fork = waiting(process)
    process.kill()
    assert gone(fork)


def test_all_end_when_the_one_that_waits_is_killed(stage):
    process = stage("waits")
    fork = waiting(process)
    os.kill(stage.waits, signal.SIGKILL)
    process.communicate()
    assert process.returncode == 128 + signal.SIGKILL and gone(fork)
    alone = stage("one")
    assert int(alone.communicate()[0].split()[0]) == alone.pid, "nobody waits any more"


def test_nobody_waits_for_one_that_could_not_import(stage):
    """It has ended, and stays listed until its parent hears of it."""
    preloaded.start(COMMAND, {**os.environ, "PYTHONPATH": str(ROOT)}, ["no_such_module"])
    process = stage("one", env={**stage.environment, PRELOADED: os.environ[PRELOADED]})
    said, _ = process.communicate(timeout=60)
    assert int(said.split()[0]) == process.pid


def test_the_one_that_waits_ends_with_its_owner(tmp_path):
    code = (
        "import os, time; from pissa_repro.runtime import paths, preloaded\n"
        f"preloaded.start({COMMAND!r}, dict(os.environ), [])\n"
        "waits, _, place = os.environ[paths.PRELOADED].partition(':')\n"
        "while not os.path.exists(place): time.sleep(0.05)\n"
        "print(waits, flush=True); os.kill(os.getpid(), 9)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, encoding="utf-8")
    assert gone(int(done.stdout))
