"""Run model-written Python so that it can harm nothing, and say whether it reached its last line.

Two ways, the first that works here (`kind`): bubblewrap, or Linux namespaces made by confine.py. Both give
the program a file system of its own (the interpreter and the system's libraries read-only, a small /tmp
in memory that vanishes afterwards), no network, no environment, no standard input, output to nowhere, a
user without rights, limits on time, memory and processes, a filter of system calls, and a process namespace,
which dies as a whole. Without either nothing is run. PISSA_REPRO_SANDBOX forces one way.

A pass is a random token that the player writes over its own pipe after the program's last line. An early
exit, of whatever status, does not write it, and nothing else that comes over that pipe is a pass. This guards
against accidents and cheap tricks only. Program and tests share a process, so code that looks for the token in
the interpreter's frames can find it, and code that makes its results equal to everything passes; nothing in one
process can prevent that.
"""

import functools
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from subprocess import PIPE
from typing import Any, BinaryIO

from pissa_repro.grading.sandbox.ways import ENVIRONMENT, Request, bubblewrap, interpreter
from pissa_repro.runtime.errors import UserError, unknown

FORCE = "PISSA_REPRO_SANDBOX"
GRACE = 20.0  # seconds beyond the wall limit, after which the sandbox itself must be stuck
PAUSES = (0.2, 2.0)  # seconds before the second and the third try in a sandbox that failed
LOOK = 0.2  # seconds from one look at whether to stop to the next


@dataclass(frozen=True)
class Limits:
    """What a program may use. CPU and memory hold for each of its processes, the rest for all together.

    20 s of CPU time: the tests of HumanEval+ and MBPP+ take a few. The wall clock is more generous, so that
    a verdict does not change with the machine's load.
    """

    cpu_seconds: int = 20
    wall_seconds: int = 60
    memory_mib: int = 2048  # of address space
    processes: int = 16  # and threads
    open_files: int = 64
    scratch_mib: int = 64
    scratch_files: int = 2048


@dataclass(frozen=True)
class Outcome:
    """How a program ended.

    status: passed (its last line was reached), failed (an exception: `error` says which and where), left early
    (it ended itself), timed out, out of memory, or killed (`error` names the signal, or says that its sandbox ended
    with it). seconds: wall clock. lacks: what its sandbox could not have here, in words.
    """

    status: str
    error: str
    seconds: float
    lacks: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return self.status == "passed"


def weaknesses() -> list[str]:
    """What the sandbox in use cannot guarantee, in words, for the record of a score."""
    common = [
        "tests run in the program's own process: one written to cheat them can fake a pass (tracing, frames, gc)",
        "the filter of system calls refuses what is known to reach outside; the rest of the kernel is exposed",
        "memory and CPU time are limited per process, not for all of a program's processes together",
        "when memory runs out, a program can ask the system to end others before it (oom_score_adj)",
    ]
    files = ["the number of files in /tmp is limited by their total size and by time only"]
    way = kind()
    return common + files * (way == "bubblewrap") + list(_probe(way).lacks)


def facts() -> dict[str, Any]:
    """What a score's record says about how its programs were run."""
    return {"kind": kind(), "weaknesses": weaknesses(), "limits": asdict(Limits()), "python": sys.version.split()[0]}


def launch(program: str, limits: Limits, way: str, stop: threading.Event | None = None) -> Outcome:
    """Run the program in a sandbox of that kind.

    Raises OSError when the sandbox itself failed, CancelledError once `stop` is set; the program is then killed.
    """
    command, mounts, folders = interpreter()
    token = secrets.token_hex(16)
    request: Request = {
        "kind": way, "program": program, "token": token, "path": folders, "mounts": mounts, "limits": asdict(limits),
    }  # fmt: skip
    if way == "bubblewrap":
        command = [*bubblewrap(limits.scratch_mib), *command]
    given = json.dumps(request).encode()  # ASCII: a lone surrogate in a program arrives as it is
    longest = limits.wall_seconds + GRACE
    code, said, complaint = _await(command, given, longest, stop or threading.Event())
    if said:
        return _outcome(said)
    if code in (128 + signal.SIGKILL, -signal.SIGKILL):  # nothing in the sandbox can do that
        raise OSError("killed as a whole, as the system does it when memory runs out")
    text = complaint.decode(errors="replace").strip()
    raise OSError((text.splitlines() or [f"no report, exit status {code}"])[-1])


def _outcome(said: bytes) -> Outcome:
    try:
        report = json.loads(said)
        return Outcome(**{**report, "lacks": tuple(report["lacks"])})
    except (ValueError, TypeError, KeyError):
        raise OSError("its report breaks off") from None


def _await(command: list[str], given: bytes, longest: float, stop: threading.Event) -> tuple[int, bytes, bytes]:
    """Exit status, standard output and error of a command. It is dead when this returns or raises.

    What it is given is a file that is whole before it starts: through a pipe, `communicate` sends nothing
    more after its first timeout (cpython#141473).
    """
    end = time.monotonic() + longest
    with (
        _in_memory(given) as file,
        subprocess.Popen(
            command, stdin=file, stdout=PIPE, stderr=PIPE, cwd="/", env=ENVIRONMENT, start_new_session=True
        ) as process,
    ):
        try:
            while not stop.is_set():
                try:
                    said, complaint = process.communicate(timeout=LOOK)
                    return process.returncode, said, complaint
                except subprocess.TimeoutExpired:
                    if time.monotonic() > end:
                        raise OSError(f"it did not end within {longest:g} s") from None
        finally:
            process.kill()
    raise CancelledError


def _in_memory(content: bytes) -> BinaryIO:
    """A file without a name that holds this, at its start."""
    file = os.fdopen(os.memfd_create("program"), "w+b")
    file.write(content)
    file.seek(0)
    return file


KINDS = ("bubblewrap", "namespaces")
HELP = (
    "Programs that a model wrote are not run without a sandbox. Install bubblewrap (a package of that name in every "
    "Linux distribution), or allow user namespaces (sysctl user.max_user_namespaces, on Ubuntu "
    "kernel.apparmor_restrict_unprivileged_userns=0; in a container, run it with --security-opt seccomp=unconfined)."
)

# also that the stranger whom a program runs as can read the standard library
PROBE = "import os, random, decimal, unittest\nassert os.listdir('/tmp') == [] and os.getuid() != 0"


@dataclass(frozen=True)
class _Probe:
    """Why a kind does not work here, empty if it does; and what it lacks."""

    reason: str
    lacks: tuple[str, ...] = ()


@functools.cache
def _probe(way: str) -> _Probe:
    """Whether this kind works here: a second time, should the first have met a passing shortage."""
    found = _try_out(way)
    return _try_out(way) if found.reason else found


def _try_out(way: str, stop: threading.Event | None = None) -> _Probe:
    if sys.platform != "linux":
        return _Probe("it needs Linux")
    try:
        done = launch(PROBE, Limits(), way, stop)
    except (UserError, OSError) as error:
        return _Probe(str(error))
    return _Probe("" if done.passed else f"a first program {done.status} {done.error}", done.lacks)


def kind() -> str:
    """The sandbox in use: bubblewrap or namespaces. Raises UserError, with what to install, if neither works."""
    forced = os.environ.get(FORCE)
    if forced and forced not in KINDS:
        raise unknown("sandbox", forced, KINDS, FORCE)
    reasons = {}
    for way in [forced] if forced else KINDS:
        reasons[way] = _probe(way).reason
        if not reasons[way]:
            return way
    why = "; ".join(f"{way}: {reason}" for way, reason in reasons.items())
    raise UserError(f"{HELP} Tried {why}")


def run(program: str, *, limits: Limits = Limits(), stop: threading.Event | None = None) -> Outcome:
    """Run one program; again where its sandbox failed.

    Where it fails every time although another program passes meanwhile, this program has ended it: killed.
    Raises UserError where there is no sandbox or none works any more, CancelledError once `stop` is set.
    """
    way, stop = kind(), stop or threading.Event()
    failed = broken = ""
    for pause in (0.0, *PAUSES):
        if stop.wait(pause):
            raise CancelledError
        try:
            return launch(program, limits, way, stop)
        except OSError as error:
            failed = str(error)
        broken = _try_out(way, stop).reason or broken
    if broken:
        raise UserError(f"the sandbox ({way}) worked before and does not now: {failed}; a harmless program: {broken}")
    return Outcome("killed", f"with its sandbox, every time, while another program passed: {failed}", 0.0)


_outcomes: dict[tuple[str, Limits], Outcome] = {}
_writing = threading.Lock()


def outcome(program: str, *, limits: Limits = Limits(), stop: threading.Event | None = None) -> Outcome:
    """The outcome of a program that has run with these limits in this process; otherwise run it."""
    key = (program, limits)
    if key not in _outcomes:
        ended = run(program, limits=limits, stop=stop)
        with _writing:
            _outcomes[key] = ended
    return _outcomes[key]


def run_many(
    programs: Iterable[str],
    *,
    limits: Limits = Limits(),
    workers: int | None = None,
    progress: Callable[[Iterable[Any], str, int], Iterator[Any]] | None = None,
) -> list[Outcome]:
    """Run programs side by side, equal ones once, and remember the outcomes; they come in the programs' order.

    workers: programs at a time, as many as this process may use cores if None. progress: `progress.track`, say.
    """
    programs = list(programs)
    todo = [program for program in dict.fromkeys(programs) if (program, limits) not in _outcomes]
    if todo:
        kind()  # probe once, before the threads
    pool, stop = ThreadPoolExecutor(workers or len(os.sched_getaffinity(0))), threading.Event()
    try:
        jobs = as_completed([pool.submit(outcome, program, limits=limits, stop=stop) for program in todo])
        for job in progress(jobs, "programs", len(todo)) if progress else jobs:
            job.result()
    finally:
        stop.set()  # on Ctrl-C those that run are killed, and the rest is not run first
        pool.shutdown(cancel_futures=True)
    return [outcome(program, limits=limits) for program in programs]
