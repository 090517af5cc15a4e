"""Which GPUs a stage may use. Snakemake counts them, but gives a job none in particular.

A card is taken by a lock on a file of this machine that is held as long as the process lives, so
that jobs side by side get cards of their own, those of another user and of another TMPDIR too. Call
before anything starts CUDA; torch is imported only where a card is taken.
"""

import contextlib
import fcntl
import importlib.metadata
import itertools
import logging
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from pissa_repro.runtime.errors import UserError

log = logging.getLogger(__name__)
ELSE = "Change models.<name>.gpus (--gpus); 0 computes on the CPU."
CPU_BUILD = "+cpu"  # the end of the version of PyTorch's wheels for CPUs
SMALLEST = (
    "import torch.cuda as c; print(min(c.get_device_properties(n).total_memory for n in range(c.device_count())))"
)
LOCKS = next((folder for folder in (Path("/tmp"), Path("/dev/shm")) if os.access(folder, os.W_OK)), Path("/tmp"))
_held: list[int] = []  # open locks; they end with the last process that holds them, and pass through exec


def visible() -> list[str]:
    """The cards that this process may see: those that CUDA_VISIBLE_DEVICES names, else all of the machine."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return _listed(named)
    nodes = [path for path in Path("/dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name)]
    there = len(nodes) or _counted()
    return [str(number) for number in range(there)]  # CUDA counts what is there: in a container nvidia3 may be 0


def _counted() -> int:
    """Cards by the driver's own tool, for WSL, where no card has a node; 0 where it is not installed or sees none."""
    try:
        done = subprocess.run(["nvidia-smi", "-L"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8")
    except OSError:
        return 0
    return sum(line.startswith("GPU ") for line in done.stdout.splitlines())


def _listed(named: str) -> list[str]:
    """The cards in a value of CUDA_VISIBLE_DEVICES, by the rules of the CUDA runtime.

    The first entry that names none (-1, NoDevFiles, nothing) ends the list; a card named twice empties it. Source: CUDA
    C++ Programming Guide, "CUDA Environment Variables", and torch.cuda._parse_visible_devices.
    """
    kind = next((kind for kind in ("GPU-", "MIG-") if named.startswith(kind)), "")  # the first entry says which
    form = re.compile(rf"({kind}.*)" if kind else r"\s*\+?(\d+)")
    matches = itertools.takewhile(bool, map(form.match, named.split(",")))
    cards = [match[1] if kind else str(int(match[1])) for match in matches if match]
    return cards if len(set(cards)) == len(cards) else []


def held() -> tuple[int, ...]:
    """The open locks of the cards that this process has taken."""
    return tuple(_held)


def smallest() -> int:
    """Bytes of memory of the smallest of the cards that this process has taken; another one asks, and starts CUDA."""
    done = subprocess.run([sys.executable, "-c", SMALLEST], check=True, stdout=subprocess.PIPE, encoding="utf-8")
    return int(done.stdout)


def take(count: int) -> None:
    """Show this process exactly `count` cards, waiting until so many are free; 0 shows it none.

    Raises UserError when the machine has fewer, and when torch does not see exactly these.
    """
    if count < 0:
        raise UserError(f"--gpus {count}: choices: 0 for the CPU, or a number of cards.")
    if 0 < count <= len(_held):
        return  # taken by an earlier call
    if "LOCAL_RANK" in os.environ:  # one of several, whose parent took the cards
        _confirm(count)
        return
    if count == 0:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return
    cards = visible()
    if count > len(cards):
        raise UserError(
            f"gpus: {count} asked for, this machine shows {len(cards)} by CUDA_VISIBLE_DEVICES, or without it by "
            f"/dev/nvidia0 and so on and by nvidia-smi -L. {ELSE}"
        )
    if not (locks := _lock(cards, count)):
        log.info("waiting for %d of the GPUs %s to be free", count, ", ".join(cards))
    while not locks:
        time.sleep(2)
        locks = _lock(cards, count)
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(locks)
    try:
        _confirm(count)
    except UserError:
        _release(locks)
        raise
    _held.extend(locks.values())


def _confirm(count: int) -> None:
    """Raise UserError unless torch sees exactly so many cards: it would else compute on the CPU, and not say so."""
    if count == 0:
        return
    import torch

    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if seen != count:
        shown = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        why = "" if torch.version.cuda else " It is built without CUDA."
        raise UserError(
            f"gpus: {count} asked for, torch {torch.__version__} sees {seen} "
            f"(CUDA_VISIBLE_DEVICES is '{shown}').{why} {ELSE}"
        )


def check_build() -> None:
    """Raise UserError for a torch that is built for CPUs alone, as its version says; torch is not imported.

    For the process that submits jobs with cards: it would be found out on a node only, after the queue.
    """
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        if (version := importlib.metadata.version("torch")).endswith(CPU_BUILD):
            raise UserError(f"models.<name>.gpus: torch {version} is built without CUDA. Install another. {ELSE}")


def _lock(cards: list[str], count: int) -> dict[str, int]:
    """The open locks of `count` free cards, by card; none at all where fewer are free, so that no two jobs starve."""
    scheduled = os.environ.get("SLURM_JOB_ID", "")  # a job of its own numbers its own cards from 0
    locks: dict[str, int] = {}
    for card in cards:
        name = re.sub(r"[^\w-]", "_", card)  # MIG-GPU-.../1/0
        handle = _open(LOCKS / f"pissa-repro-gpu-{scheduled}-{name}.lock")
        os.set_inheritable(handle, True)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            locks[card] = handle
        except BlockingIOError:
            os.close(handle)
        if len(locks) == count:
            return locks
    _release(locks)
    return {}


def _open(path: Path) -> int:
    """A file to lock that every user may read, which is enough; opened anew or made, and never through a link.

    Raises UserError for one that cannot be opened. (Linux lets nobody open another's file in /tmp with O_CREAT.)
    """
    try:
        with contextlib.suppress(FileNotFoundError):
            return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:  # made by another one just now
            return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        raise UserError(f"{path}: the lock of a card cannot be opened ({error.strerror}). Delete it.") from error
    os.fchmod(handle, 0o644)  # whatever the umask says
    return handle


def _release(locks: dict[str, int]) -> None:
    for handle in locks.values():
        os.close(handle)
