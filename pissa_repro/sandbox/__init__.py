"""Run model-written Python so that it can harm nothing, and say whether it reached its last line.

Two ways, the first that works here (`kind`): bubblewrap, or Linux namespaces made by inside.py. Both give
the program a file system of its own (the interpreter and the system's libraries read-only, a small /tmp
in memory that vanishes afterwards), no network, no environment, no standard input, output to nowhere, a
user without rights, limits on time, memory and processes, and a process namespace, which dies as a whole.
Without either nothing is run. PISSA_REPRO_SANDBOX forces one way.

A pass is a random token that the player writes over its own pipe after the program's last line: an early
exit, of whatever status, does not write it. This guards against accidents and cheap tricks only. Program
and tests share a process, so code that looks for the token in the interpreter's frames can find it, and
code that makes its results equal to everything passes; nothing in one process can prevent that.
"""

import functools
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from typing import Any

from pissa_repro.errors import UserError, unknown
from pissa_repro.sandbox.ways import ENVIRONMENT, bubblewrap, interpreter

FORCE = "PISSA_REPRO_SANDBOX"
GRACE = 20.0  # seconds beyond the wall limit, after which the sandbox itself must be stuck


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
    (it ended itself), timed out, out of memory, or killed (`error` names the signal). seconds: wall clock.
    """

    status: str
    error: str
    seconds: float

    @property
    def passed(self) -> bool:
        return self.status == "passed"


def weaknesses(way: str | None = None) -> list[str]:
    """What this way cannot guarantee, in words, for the record of a score."""
    common = [
        "a program can find its tests, and fake a pass, by looking through its own process",
        "no filter of system calls: the kernel is exposed as to any user's program",
        "memory and CPU time are limited per process, not for all of a program's processes together",
    ]
    files = ["the number of files in /tmp is limited by their total size and by time only"]
    return common + (files if (way or kind()) == "bubblewrap" else [])


def facts() -> dict[str, Any]:
    """What a score's record says about how its programs were run."""
    return {"kind": kind(), "weaknesses": weaknesses(), "limits": asdict(Limits()), "python": sys.version.split()[0]}


def launch(program: str, limits: Limits, way: str) -> Outcome:
    """Run the program in a sandbox of that kind. Raises OSError when the sandbox does not work here."""
    command, mounts, folders = interpreter()
    token = secrets.token_hex(16)
    request = {"program": program, "token": token, "path": folders, "mounts": mounts, "limits": asdict(limits)}
    if way == "bubblewrap":
        return _await([*bubblewrap(limits.scratch_mib), *command], request)
    base = tempfile.mkdtemp(prefix="pissa-repro-sandbox-")  # stays empty on the host
    try:
        return _await(command, {**request, "base": base})
    finally:
        os.rmdir(base)


def _await(command: list[str], request: dict[str, Any]) -> Outcome:
    given = json.dumps(request).encode()  # ASCII: a lone surrogate in a program arrives as it is
    longest = request["limits"]["wall_seconds"] + GRACE
    try:
        done = subprocess.run(
            command, input=given, capture_output=True, timeout=longest, cwd="/", env=ENVIRONMENT, start_new_session=True
        )
    except subprocess.TimeoutExpired:  # which has killed it
        return Outcome("timed out", "the sandbox itself did not end", longest)
    if done.stdout:
        return Outcome(**json.loads(done.stdout))
    if done.returncode == 128 + signal.SIGKILL:  # nothing in the sandbox can do that: the system was out of memory
        return Outcome("killed", "with the sandbox, by the system", 0.0)
    text = done.stderr.decode(errors="replace").strip()
    raise OSError((text.splitlines() or [f"no report, exit status {done.returncode}"])[-1])


KINDS = ("bubblewrap", "namespaces")
HELP = (
    "Programs that a model wrote are not run without a sandbox. Install bubblewrap (a package of that name in every "
    "Linux distribution), or allow user namespaces (sysctl user.max_user_namespaces, on Ubuntu "
    "kernel.apparmor_restrict_unprivileged_userns=0; in a container, run it with --security-opt seccomp=unconfined)."
)

# also that nobody, whom a program runs as, can read the standard library
PROBE = "import os, random, decimal, unittest\nassert os.listdir('/tmp') == [] and os.getuid() != 0"


@functools.cache
def _probe(way: str) -> str:
    """Why this kind does not work here; empty if it does."""
    try:
        done = launch(PROBE, Limits(wall_seconds=20), way)
    except (UserError, OSError) as error:
        return str(error)
    return "" if done.passed else f"a first program {done.status} {done.error}"


def kind() -> str:
    """The sandbox in use: bubblewrap or namespaces. Raises UserError, with what to install, if neither works."""
    forced = os.environ.get(FORCE)
    if forced and forced not in KINDS:
        raise unknown("sandbox", forced, KINDS, FORCE)
    reasons = {}
    for way in [forced] if forced else KINDS:
        reasons[way] = _probe(way)
        if not reasons[way]:
            return way
    why = "; ".join(f"{way}: {reason}" for way, reason in reasons.items())
    raise UserError(f"{HELP} Tried {why}")


def run(program: str, *, limits: Limits = Limits()) -> Outcome:
    """Run one program. Raises UserError where there is no sandbox."""
    way = kind()
    try:
        return launch(program, limits, way)
    except OSError as error:
        raise UserError(f"the sandbox ({way}) worked before and does not now: {error}") from None


_outcomes: dict[tuple[str, Limits], Outcome] = {}
_writing = threading.Lock()


def outcome(program: str, *, limits: Limits = Limits()) -> Outcome:
    """The outcome of a program that has run with these limits in this process; otherwise run it."""
    key = (program, limits)
    if key not in _outcomes:
        found = run(program, limits=limits)
        with _writing:
            _outcomes[key] = found
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
    pool = ThreadPoolExecutor(workers or len(os.sched_getaffinity(0)))
    try:
        jobs = as_completed([pool.submit(outcome, program, limits=limits) for program in todo])
        for job in progress(jobs, "programs", len(todo)) if progress else jobs:
            job.result()
    finally:
        pool.shutdown(cancel_futures=True)  # on Ctrl-C the rest is not run first
    return [outcome(program, limits=limits) for program in programs]
