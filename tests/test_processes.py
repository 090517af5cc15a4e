"""Several processes of one training: they end with the one that has started them, and hold its locks."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pissa_repro.plan.config import ROOT
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.lock import alone

LAUNCH = """
import sys
from pathlib import Path
from pissa_repro.runtime.errors import run_stage
from pissa_repro.runtime.lock import alone
from pissa_repro.runtime.processes import run

def main():
    with alone(Path({place!r}), "busy in") as lock:
        run([sys.executable, "-c", {work!r}], 2, [lock])

run_stage(main)
"""
TIED = "from pissa_repro.runtime.processes import end_with_launcher; end_with_launcher(); "
SAY = """import os, sys, time
from pathlib import Path
{first}
Path({folder!r}, os.environ["RANK"]).write_text(str(os.getpid()), encoding="utf-8")
"""


def launched(folder, work: str, first: str = "") -> subprocess.Popen:
    """A process that runs this work in two, with the lock of a cell; they say their pids before it, after `first`."""
    code = LAUNCH.format(place=str(folder / "cell"), work=SAY.format(folder=str(folder), first=first) + work)
    command = [sys.executable, "-c", code]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8")


def pids(folder, launcher: subprocess.Popen) -> list[int]:
    """The pids of the two processes, when both are at work."""
    places = [folder / rank for rank in "01"]
    until(lambda: launcher.poll() is not None or all(place.is_file() and place.stat().st_size for place in places))
    return [int(place.read_text(encoding="utf-8")) for place in places]


def until(condition) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def runs(pid: int) -> bool:
    """Whether a process runs, and is not only unburied."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def is_free(place) -> bool:
    with contextlib.suppress(UserError), alone(place, "busy in"):
        return True
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_processes_end_with_a_killed_launcher(tmp_path):
    """They would else wait for each other for ever, each on its card."""
    launcher = launched(tmp_path, "time.sleep(600)", TIED)
    started = pids(tmp_path, launcher)
    launcher.kill()
    launcher.communicate()
    until(lambda: not any(map(runs, started)))
    assert is_free(tmp_path / "cell")


def test_processes_hold_the_locks_as_long_as_one_lives(tmp_path):
    launcher = launched(tmp_path, "time.sleep(600)")
    started = pids(tmp_path, launcher)
    launcher.kill()
    launcher.wait()
    try:
        for pid in started:
            assert runs(pid) and not is_free(tmp_path / "cell")
            os.kill(pid, signal.SIGKILL)
            until(lambda pid=pid: not runs(pid))
        assert is_free(tmp_path / "cell")
    finally:
        for pid in filter(runs, started):
            os.kill(pid, signal.SIGKILL)


def test_the_failure_of_one_ends_all_and_is_told(tmp_path):
    work = "sys.exit('no memory on this card' if os.environ['RANK'] == '1' else time.sleep(600))"
    launcher = launched(tmp_path, work)
    said, _ = launcher.communicate(timeout=300)
    assert launcher.returncode == 1
    assert "process 2 of 2 has failed" in said and said.count("no memory on this card") == 1
    assert "Traceback" not in said
    assert not any(map(runs, pids(tmp_path, launcher)))


def test_a_process_that_was_killed_is_named(tmp_path):
    """As by the kernel, where memory is short."""
    launcher = launched(tmp_path, "os.kill(os.getpid(), 9) if os.environ['RANK'] == '0' else time.sleep(600)")
    said, _ = launcher.communicate(timeout=300)
    assert launcher.returncode == 137 and "process 1 of 2 was ended by signal 9" in said


def test_an_error_that_all_meet_is_told_once(tmp_path):
    launcher = launched(tmp_path, "sys.exit('error: rows: no such file')")
    said, _ = launcher.communicate(timeout=300)
    assert launcher.returncode == 1 and said.strip() == "error: rows: no such file"


def test_all_end_well_and_the_first_is_heard(tmp_path):
    launcher = launched(tmp_path, "print('step', os.environ['RANK'], os.environ['WORLD_SIZE'])")
    said, _ = launcher.communicate(timeout=300)
    assert launcher.returncode == 0 and said.strip() == "step 0 2"


def test_an_interrupt_ends_all(tmp_path):
    launcher = launched(tmp_path, "time.sleep(600)")
    started = pids(tmp_path, launcher)
    launcher.send_signal(signal.SIGTERM)
    launcher.communicate(timeout=300)
    assert launcher.returncode == 143 and not any(map(runs, started))
