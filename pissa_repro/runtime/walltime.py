"""The end of a job's time, told in advance: SIGUSR1, which a batch system can send some minutes before it kills.

A stage that can stop between two steps listens. All others ignore the signal, for the shell that starts them does
(rules/common.smk), and go on to an end that they may still reach.
"""

import contextlib
import logging
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from pissa_repro.runtime.errors import Stopped

log = logging.getLogger(__name__)


class Stop:
    """Which signal asked this process to stop: its number, 0 as long as none has."""

    number = 0

    def _ask(self, number: int, frame: object) -> None:
        self.number = number

    def leave(self) -> None:
        """Raise Stopped where a signal has asked for it; the warning also puts the job back into the queue.

        For a stage between two parts of its work, of which what is done is on the disk.
        """
        if self.number:
            log.info("%s: stopped, what is finished is kept", signal.Signals(self.number).name)
            if self.number == signal.SIGUSR1:
                requeue()
            raise Stopped(self.number)

    @contextlib.contextmanager
    def listening(self, *signals: int) -> Iterator["Stop"]:
        """Take note of these signals, instead of ending by them. For the main thread alone (ValueError elsewhere)."""
        before = {number: signal.signal(number, self._ask) for number in signals}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)


@contextlib.contextmanager
def late() -> Iterator[None]:
    """Within, the warning waits, and ends nothing that is started: a program inherits none of Python's handlers."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignored() -> None:
    """Ignore the warning, in this process and in all that it starts or becomes, until one of them listens."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def pass_on() -> None:
    """Send the warning on to every process below this one, and live.

    For the Snakemake of a job: where Slurm tracks processes by cgroups (proctrack/cgroup), a signal other than SIGKILL
    reaches the first process of a step alone.
    """

    def send(number: int, frame: object) -> None:
        for process in _below(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)

    signal.signal(signal.SIGUSR1, send)


def _below(root: int) -> list[int]:
    """The processes that a process has started, and those that these have. Linux's /proc/PID/stat names the parents."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            text = path.read_text(encoding="utf-8", errors="replace")
            parents[int(path.parent.name)] = int(text.rpartition(")")[2].split()[1])  # before: a name, of any letters
    found = [root]
    for process in found:  # it grows on the way
        found += [child for child, parent in parents.items() if parent == process]
    return found[1:]


def requeue() -> bool:
    """Put the Slurm job of this process back into the queue; whether that was done. Slurm then ends what runs of it.

    Nothing is done outside of a job, and what Slurm refuses is a warning: the job then fails, and may be tried again.
    """
    job = os.environ.get("SLURM_JOB_ID", "")
    if not job:
        return False
    try:
        done = subprocess.run(
            ["scontrol", "requeue", job], capture_output=True, timeout=120, encoding="utf-8", errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        refusal = str(error)
    else:
        if done.returncode == 0:
            log.info("job %s goes back into the queue", job)
            return True
        refusal = done.stderr.strip()
    log.warning("job %s cannot go back into the queue: %s", job, refusal)
    return False
