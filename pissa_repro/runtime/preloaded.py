"""Stages in processes that have their libraries already: one process imports them once, and forks for each job.

A sweep of a small model starts dozens of processes, and importing torch, transformers, peft and trl takes longer than
most of them work. A stage that is started while such a process waits (`start`, by Snakefile) hands its work over and
waits for the end: its arguments, folder, environment and open files are passed on, signals as well, and the fork ends
with its exit code. Each job has a process of its own as before, with its own memory, locks and log. Where anything is
in the way, the stage goes on by itself. Linux only. torch is not imported here.
"""

import contextlib
import gc
import importlib
import io
import json
import os
import runpy
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from pissa_repro.runtime.paths import PRELOADED
from pissa_repro.runtime.processes import end_with_parent

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
# What may differ between the process that waits and a job: no library reads it while it is imported.
OWN = {PRELOADED, "_", "SHLVL", "PWD", "OLDPWD", "TMPDIR", "TMP", "TEMPDIR", "TEMP"}
SIZE = struct.Struct("!Q")
MAIN = "from pissa_repro.runtime import preloaded; preloaded.main()"
forked = False  # whether this process is a fork of the one that waits


def possible() -> bool:
    return sys.platform == "linux" and hasattr(os, "pidfd_open")


def start(python: str, environment: dict[str, str], modules: Sequence[str]) -> None:
    """Start the process that waits by a command of the shell, the interpreter's. It ends with this process.

    Jobs of this process find it by their environment. The first ones wait until it has imported `modules`, as long as
    their own import would take.
    """
    folder = tempfile.TemporaryDirectory(prefix="pissa-repro-")  # for its user alone
    place = os.path.join(folder.name, "socket")
    words = [place, str(os.getpid()), *modules]
    nowhere = subprocess.DEVNULL
    waits = subprocess.Popen(
        ["bash", "-c", f'{python} -c "{MAIN}" "$@"', "bash", *words],
        env=environment, stdin=nowhere, stdout=nowhere, stderr=nowhere,
    )  # fmt: skip
    os.environ[PRELOADED] = f"{waits.pid}:{place}"
    _kept.append(folder)


_kept: list[tempfile.TemporaryDirectory[str]] = []  # removed when this process ends


def hand_over() -> int | None:
    """Have this stage's work done by a fork of the process that waits, and return its exit code.

    None where nobody waits, or not with the same Python and the same environment.
    """
    waits, _, place = os.environ.pop(PRELOADED, "").partition(":")
    if not place:
        return None
    while not os.path.exists(place) and _lives(waits):
        time.sleep(0.05)
    with socket.socket(socket.AF_UNIX) as line:
        try:
            line.connect(place)
        except OSError:
            return None
        specified = getattr(sys.modules["__main__"], "__spec__", None)
        asked = {
            "python": sys.executable, "module": specified and specified.name, "arguments": sys.argv[1:],
            "folder": os.getcwd(), "environment": dict(os.environ),
        }  # fmt: skip
        signals: list[int] = []
        before = {number: signal.signal(number, lambda number, frame: signals.append(number)) for number in FORWARDED}
        try:
            return _followed(line, json.dumps(asked).encode(), signals)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _lives(process: str) -> bool:
    """Whether it runs: one that has ended stays listed, as Z, until its parent hears of it."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return stat.rpartition(") ")[2][:1] not in "ZX"


def _followed(line: socket.socket, asked: bytes, signals: list[int]) -> int | None:
    """The exit code of the fork that does what is asked; what this process hears meanwhile is passed on."""
    try:
        socket.send_fds(line, [SIZE.pack(len(asked))], [0, 1, 2])
        line.sendall(asked)
        fork = SIZE.unpack(_read(line, SIZE.size))[0]
    except (OSError, EOFError):  # it has ended, and its forks with it
        return None
    if not fork:
        return None
    line.settimeout(0.1)
    while True:
        while signals:
            with contextlib.suppress(ProcessLookupError):
                os.kill(fork, signals.pop(0))
        try:
            said = line.recv(SIZE.size)
        except TimeoutError:
            continue
        return SIZE.unpack(said)[0] if said else 128 + signal.SIGKILL  # nothing: the one that waited is gone


def _read(line: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = line.recv(size - len(parts))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)


def serve(place: str, owner: int, modules: Sequence[str]) -> list[str]:
    """Import the modules, then fork for each job that comes. Returns in a fork: the module to run, and its arguments.

    Ends with the process `owner`.
    """
    end_with_parent(owner)
    for number in FORWARDED:
        signal.signal(number, signal.SIG_IGN)
    environment = dict(os.environ)  # libraries add to it
    for module in modules:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # what is imported is never looked at again, so that forks share it
    with socket.socket(socket.AF_UNIX) as door, selectors.DefaultSelector() as selector:
        door.bind(place)
        door.listen(64)
        selector.register(door, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.data is not None:
                    _ended(selector, *key.data)
                elif job := _forked(selector, door.accept()[0], environment):
                    return job


def _forked(selector: selectors.BaseSelector, line: socket.socket, environment: dict[str, str]) -> list[str]:
    """Fork for a job; empty in the process that waits, and where the job has to go on by itself."""
    try:
        size, files, *_ = socket.recv_fds(line, SIZE.size, 3)
        asked = json.loads(_read(line, SIZE.unpack(size)[0]))
    except (OSError, EOFError, ValueError, struct.error):  # it ended meanwhile
        line.close()
        return []
    alike = asked["python"] == sys.executable and asked["module"]
    alike = alike and _read_by_libraries(asked["environment"]) == _read_by_libraries(environment)
    parent = os.getpid()
    fork = os.fork() if alike else -1
    if fork == 0:
        _become(line, files, asked, parent)
        return [asked["module"], *asked["arguments"]]
    for file in files:
        os.close(file)
    with contextlib.suppress(OSError):
        line.sendall(SIZE.pack(max(fork, 0)))
    if fork > 0:
        selector.register(os.pidfd_open(fork), selectors.EVENT_READ, (fork, line))
    else:
        line.close()
    return []


def _read_by_libraries(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name not in OWN}


def _become(line: socket.socket, files: Sequence[int], asked: dict[str, Any], parent: int) -> None:
    """Make this fork the process that asked for it: its files, folder, environment and signals; and end with it."""
    global forked
    forked = True
    end_with_parent(parent)
    os.setsid()  # the terminal tells the one that asked, which passes it on
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(asked["folder"])
    for name in OWN & {*os.environ}:
        del os.environ[name]
    os.environ.update(asked["environment"])  # beside what libraries have added
    tempfile.tempdir = None
    sys.stdout, sys.stderr = _writer(1, os.isatty(1)), _writer(2, True)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with, args=(line,), daemon=True).start()


def _writer(file: int, by_line: bool) -> io.TextIOWrapper:
    """A new stream of an open file: one that was made for another file knows of that whether it can seek."""
    return io.TextIOWrapper(io.BufferedWriter(io.FileIO(file, "w", closefd=False)), "utf-8", line_buffering=by_line)


def _end_with(line: socket.socket) -> NoReturn:
    """End when the process at the other end does, however it ends."""
    with contextlib.suppress(OSError):
        line.recv(1)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def _ended(selector: selectors.BaseSelector, fork: int, line: socket.socket) -> None:
    """Tell the process that asked how its fork has ended."""
    (key,) = (key for key in selector.get_map().values() if key.data and key.data[0] == fork)
    selector.unregister(key.fd)
    os.close(key.fd)
    code = os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1])
    with contextlib.suppress(OSError), line:
        line.sendall(SIZE.pack(code if code >= 0 else 128 - code))


def main() -> None:
    """Wait, and in a fork run the stage that was asked for. Arguments: the socket, the owner's pid, the modules."""
    stage, *arguments = serve(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
    sys.argv[1:] = arguments
    sys.path[0] = str(Path.cwd())
    runpy.run_module(stage, run_name="__main__", alter_sys=True)
