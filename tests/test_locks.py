"""Two processes do not do the same long work at once: the second stops, and says who is at it."""

import contextlib
import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from helpers import Run
from stage import says

from pissa_repro.plan.config import ROOT
from pissa_repro.runtime import gpus, lock, processes
from pissa_repro.runtime.lock import alone
from pissa_repro.runtime.record import canonical
from pissa_repro.scoring import generations
from pissa_repro.stages import init, train

HOLD = "from pathlib import Path; from pissa_repro.runtime.lock import alone\nwith alone(Path({!r}), 'busy in'): {}"


@contextlib.contextmanager
def held(path, then="print(flush=True); input()"):
    """Another process that holds a place; it is killed at the end."""
    command = [sys.executable, "-c", HOLD.format(str(path), then)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
    )
    try:
        process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.communicate()


def refused(call, path, process):
    """The call stops, and names the place, who has it and what to do."""
    says(call, f"{path}: another process is", f"pid {process.pid} on {socket.gethostname()}", "kill", "again")


def enter(path):
    with alone(path, "busy in"):
        pass


def test_a_second_process_is_told_who_is_at_work(tmp_path):
    """Case 20."""
    place = tmp_path / "deep" / "cell"
    with held(place) as process:
        refused(lambda: enter(place), place, process)
        enter(tmp_path / "deep" / "cell2")
        process.communicate("\n")
    enter(place)
    assert list(place.parent.iterdir()) == [], "a lock's file was left"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_the_kernel_releases_the_lock_of_a_process_that_died(tmp_path, how):
    """Case 20."""
    with held(tmp_path / "cell") as process:
        process.send_signal(how)
        process.wait()
        enter(tmp_path / "cell")


def test_an_error_releases_the_lock(tmp_path):
    """Case 20."""
    with pytest.raises(ZeroDivisionError), alone(tmp_path / "cell", "busy in"):
        1 / 0  # noqa: B018
    enter(tmp_path / "cell")


def test_children_do_not_keep_the_lock(tmp_path):
    """Case 20: neither a program that was started nor one that takes this process's place."""
    started = "import subprocess; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); input()"
    command = [sys.executable, "-c", HOLD.format(str(tmp_path / "cell"), started)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
    ) as process:
        child = int(process.stdout.readline())
        process.kill()
        process.wait()
    try:
        enter(tmp_path / "cell")
    finally:
        os.kill(child, signal.SIGKILL)
    become = "import os; print(flush=True); os.execvp('cat', ['cat'])"
    with held(tmp_path / "cell", become):
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with contextlib.suppress(Exception):
                enter(tmp_path / "cell")
                return
        pytest.fail("the lock passed through exec")


def test_of_many_at_once_one_is_at_work_at_any_time(tmp_path):
    """Case 20: also while each removes the file of its lock."""
    place, inside, worked, most = tmp_path / "cell", [], [], []

    def work():
        deadline, mine = time.monotonic() + 60, 0
        while mine < 20 and time.monotonic() < deadline:
            with contextlib.suppress(lock.UserError), alone(place, "busy in"):
                inside.append(1)
                most.append(len(inside))
                worked.append(1)
                mine += 1
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1 and len(worked) == 8 * 20


def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch, caplog):
    """Case 20: Lustre without `-o flock` says ENOSYS; the work goes on."""

    def none(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", none)
    enter(tmp_path / "cell")
    assert "this file system has no locks" in caplog.text


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_model, tiny_rows):
    """A tiny cell; nothing is made of it."""
    return Run(tmp_path_factory.mktemp("cell"), tiny_model, tiny_rows, "pissa", steps=4, batch_size=5)


def test_a_cell_is_not_trained_twice_at_once(run):
    """Case 20: snakemake alone was killed, its training goes on, and snakemake is started again."""
    with held(run.scratch) as process:
        refused(lambda: train.main(run.train_argv()), run.scratch, process)
    assert not run.trained.exists() and not run.scratch.exists()


def test_a_start_is_not_made_twice_at_once(run):
    """Case 20."""
    argv = ["--model", str(run.model), "--out", str(run.start), "--spec", canonical(run.init_spec)]
    with held(run.start) as process:
        refused(lambda: init.main(argv), run.start, process)
    assert not run.start.exists()


def test_the_other_processes_of_one_training_take_no_lock(run, monkeypatch):
    """Case 20: torchrun starts one a card; the first holds it for all."""
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(train, "run", lambda *_: None)
    with held(run.scratch):
        train.main(run.train_argv())


def test_a_training_on_two_cards_is_two_processes_with_its_locks(run, tmp_path, monkeypatch):
    """The locks of the cards and of the cell; each process trains and takes none itself."""
    asked, card = [], os.open(tmp_path / "card", os.O_CREAT | os.O_RDWR)
    monkeypatch.setattr(gpus, "take", lambda count: None)
    monkeypatch.setattr(gpus, "_held", [card])

    def started(command, count, locks):
        asked.append((command, count))
        name = run.scratch.with_name(f".{run.scratch.name}.lock")
        assert locks[0] == card and os.path.samestat(os.fstat(locks[1]), name.stat())

    monkeypatch.setattr(processes, "run", started)
    argv = run.train_argv("--gpus", "2")
    train.main(argv)
    assert asked == [([sys.executable, "-m", "pissa_repro.stages.train", *argv], 2)]
    done = []
    monkeypatch.setattr(train, "run", lambda *_: done.append(1))
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", processes.LAUNCHER: str(os.getppid())}.items():
        monkeypatch.setenv(name, value)
    with alone(run.scratch, "training in"):
        train.main(argv)
    assert done == [1] and len(asked) == 1
    os.close(card)


def test_a_journal_names_who_writes_it(tmp_path):
    """Case 20: generations and judgements."""
    path = tmp_path / "generated.jsonl"
    with held(path) as process:
        refused(lambda: generations.journal(path, {}).__enter__(), path, process)
