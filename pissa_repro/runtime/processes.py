"""Several processes of one stage on this machine: started together, ended together, heard once.

Instead of torchrun, whose workers go on when it is killed, hold none of its locks, and answer a failure with its own
traceback. torch is not imported here.
"""

import contextlib
import ctypes
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import IO

log = logging.getLogger(__name__)
LAUNCHER = "PISSA_REPRO_LAUNCHER"  # the pid of the process that has started this one here
# What the processes of a training share: nothing of the weights, all, or what the memory of the cards asks for.
NONE, FULL, AUTO = SHARDING = ("none", "full", "auto")
PR_SET_PDEATHSIG = 1  # linux/prctl.h
ALONE, ASKED = 2.0, 60.0  # seconds for the others to end by themselves, and after they were asked to
STOPPED = (128 + signal.SIGINT, 128 + signal.SIGUSR1, 128 + signal.SIGTERM)  # told to stop: no failure
TAIL = 2000  # characters shown of a process that failed and was not heard


def launched() -> bool:
    """Whether this process is one of several that `run` has started."""
    return LAUNCHER in os.environ


def is_first() -> bool:
    """Whether this process is the first of its training, or its only one."""
    return os.environ.get("RANK", "0") == "0"


def end_with_launcher() -> None:
    """Let the kernel kill this process when the one that has started it ends, however it ends.

    Else it would wait for the others for ever, on its card. For processes of `run` and of torchrun, on Linux.
    """
    if "LOCAL_RANK" in os.environ and sys.platform == "linux":
        end_with_parent(int(os.environ[LAUNCHER]) if launched() else os.getppid())


def end_with_parent(parent: int) -> None:
    """Let the kernel kill this process when `parent` ends, which has started it. On Linux."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("error: the process that has started this one has ended.")  # before the kernel was told


def run(command: Sequence[str], count: int, locks: Sequence[int] = ()) -> None:
    """Run a command in `count` processes and return when all have ended well.

    They find each other by the variables of torch.distributed. The first one's output is this process's; another's is
    shown where it alone failed. locks: open files of locks that they hold with this process, until the last one ends.
    Raises SystemExit with the code of the first that failed; the others are ended then, and at an interrupt.
    """
    shared = os.environ | {
        "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), LAUNCHER: str(os.getpid()),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    }  # fmt: skip
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(1, count)]
        heard: list[IO[bytes] | None] = [None, *others]
        processes: list[subprocess.Popen[bytes]] = []
        stack.callback(_end, processes)
        for rank, output in enumerate(heard):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            started = subprocess.Popen(command, env=shared | own, stdout=output, stderr=output, pass_fds=locks)
            processes.append(started)
        if (failed := _failed(processes)) is None:
            return
        code = processes[failed].returncode
        if code in STOPPED:
            _wait(processes, ASKED)  # another one may write a checkpoint
            sys.exit(code)
        _wait(processes, ALONE)
        if code < 0:
            log.error("process %d of %d was ended by signal %d", failed + 1, count, -code)
        if output := heard[failed]:
            _tell(failed, count, output, processes[0].poll())
        sys.exit(code if code > 0 else 128 - code)


def _free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        port: int = made.getsockname()[1]
        return port


def _failed(processes: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """The rank of the first process that ends with another code than 0; None when all have ended with it."""
    while True:
        codes = [process.poll() for process in processes]
        for rank, code in enumerate(codes):
            if code:
                return rank
        if None not in codes:
            return None
        time.sleep(0.1)


def _tell(rank: int, count: int, output: IO[bytes], first: int | None) -> None:
    """Show the end of what a process has said. Not an error for the user, which the first process has met as well."""
    output.seek(0)
    text = output.read().decode("utf-8", "replace").strip()
    if first and text.rpartition("\n")[2].startswith("error: "):
        return
    log.error("process %d of %d has failed; its last words:\n%s", rank + 1, count, text[-TAIL:])


def _wait(processes: Sequence[subprocess.Popen[bytes]], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(_running(processes)) and time.monotonic() < deadline:
        time.sleep(0.05)


def _running(processes: Sequence[subprocess.Popen[bytes]]) -> Iterator[subprocess.Popen[bytes]]:
    return (process for process in processes if process.poll() is None)


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End those that still run. A batch system and Ctrl-C have told them too: they first get time to end by that."""
    for number, seconds in ((signal.SIGTERM, ASKED), (signal.SIGKILL, ASKED)):
        _wait(processes, ALONE)
        for process in _running(processes):
            process.send_signal(number)
        _wait(processes, seconds)
