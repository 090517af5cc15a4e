"""Which GPUs a stage may use. Snakemake counts them, but gives a job none in particular.

A card is taken by a lock on a file of this machine that is held as long as the process lives, so
that jobs side by side get cards of their own. Call before anything starts CUDA; imports no torch.
"""

import fcntl
import logging
import os
import re
import tempfile
import time
from pathlib import Path

from pissa_repro.runtime.errors import UserError

log = logging.getLogger(__name__)
_held: list[int] = []  # open locks; they end with the process, and pass through exec


def visible() -> list[str]:
    """The cards that this process may see: CUDA_VISIBLE_DEVICES, else all of the machine."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name.strip()]
    matches = (re.fullmatch(r"nvidia(\d+)", path.name) for path in Path("/dev").glob("nvidia*"))
    return sorted((match[1] for match in matches if match), key=int)


def take(count: int) -> None:
    """Show this process exactly `count` cards, waiting until so many are free; 0 shows it none.

    Raises UserError when the machine has fewer.
    """
    if "LOCAL_RANK" in os.environ or 0 < count <= len(_held):
        return  # started by torchrun, whose parent took the cards; or taken by an earlier call
    if count == 0:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return
    cards = visible()
    if count > len(cards):
        raise UserError(f"gpus: {count} asked for, this machine shows {len(cards)}. Change models.<name>.gpus.")
    if not (locks := _lock(cards, count)):
        log.info("waiting for %d of the GPUs %s to be free", count, ", ".join(cards))
    while not locks:
        time.sleep(2)
        locks = _lock(cards, count)
    _held.extend(locks.values())
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(locks)


def _lock(cards: list[str], count: int) -> dict[str, int]:
    """The open locks of `count` free cards, by card; none at all where fewer are free, so that no two jobs starve."""
    scheduled = os.environ.get("SLURM_JOB_ID", "")  # a job of its own numbers its own cards from 0
    locks: dict[str, int] = {}
    for card in cards:
        path = Path(tempfile.gettempdir()) / f"pissa-repro-gpu-{os.getuid()}{scheduled}-{card}.lock"
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.set_inheritable(handle, True)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            locks[card] = handle
        except BlockingIOError:
            os.close(handle)
        if len(locks) == count:
            return locks
    for handle in locks.values():
        os.close(handle)
    return {}
