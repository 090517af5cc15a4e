"""One process at a time where work takes long: a lock that the kernel releases when its holder dies, however it dies.

The lock is a file beside what is written, .<name>.lock, and says who holds it. Linux takes such locks over NFS to the
server, so that other machines see them, unless the share is mounted with `nolock` or `local_lock=flock`; then, and on a
file system without locks (Lustre without `-o flock`), it is for the user that no two machines write to one folder.
"""

import contextlib
import errno
import fcntl
import logging
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pissa_repro.runtime.errors import UserError

log = logging.getLogger(__name__)
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
HELD_BY = re.compile(r"pid (\d+) on (.+)")


class Holder(NamedTuple):
    """Whom the file of a lock names. alive: None where that cannot be known here: it is another machine's process."""

    name: str
    alive: bool | None


def acquire(descriptor: int, path: Path, wait: bool) -> None:
    """Lock an open file; a file system without locks is only warned of.

    Raises BlockingIOError where another process holds it and `wait` is false, and OSError.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        log.warning("%s: this file system has no locks; run no second process on it", path)


@contextlib.contextmanager
def alone(path: Path, work: str) -> Iterator[int]:
    """Be the only process that writes to `path`, a file or a folder. work: what a process that does so is doing.

    Gives the open lock, for processes that write there with this one.
    Raises UserError, which names the holder, while another process does it, and OSError.
    """
    lock = lock_of(path)
    lock.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _open(lock, path, work)
    try:
        with contextlib.suppress(OSError):  # a full disk: the lock holds without a name too
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"pid {os.getpid()} on {socket.gethostname()}".encode())
        yield descriptor
    finally:
        with contextlib.suppress(OSError):
            lock.unlink()
        os.close(descriptor)


def _open(lock: Path, path: Path, work: str) -> int:
    """The lock's file, open and locked."""
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            acquire(descriptor, lock, wait=False)
            if _is(lock, descriptor):
                return descriptor
        except BlockingIOError:
            holder = os.read(descriptor, 300).decode("utf-8", "replace") or "it has just begun"
            os.close(descriptor)
            raise UserError(
                f"{path}: another process is {work} it ({holder}). Wait for it, or stop it there with `kill`; "
                "then run the same command again."
            ) from None
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its holder has just removed it: another process may lock a new one


def _is(lock: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(lock), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def lock_of(path: Path) -> Path:
    """The file of the lock of a place."""
    return path.with_name(f".{path.name}.lock")


def holder(path: Path) -> Holder | None:
    """Who holds a place, or died while holding it; None where nobody does.

    It looks and takes no lock, not even for a moment: a process that begins just then would be refused.
    """
    try:
        name = lock_of(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    named = HELD_BY.fullmatch(name)
    if named is None:
        return Holder("it has just begun", None)
    return Holder(name, _holds(named[1]) if named[2] == socket.gethostname() else None)


def _holds(pid: str) -> bool:
    """Whether a process of this machine holds any lock, by the kernel's list; without a list, whether it lives."""
    try:
        lines = Path("/proc/locks").read_text(encoding="utf-8").splitlines()
    except OSError:
        return _lives(int(pid))
    return any(pid in line.split()[4:5] for line in lines)  # number: kind, ADVISORY, READ or WRITE, pid, ...


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True
