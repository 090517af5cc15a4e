"""Errors that a user can act on, and the wrapper that every stage runs under."""

import contextlib
import difflib
import errno
import io
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pissa_repro.runtime.paths import PRELOADED

INTERRUPTED = "interrupted: finished outputs are kept, run the same command to go on"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY)

NO_MEMORY = (
    "For a training: a lower micro_batch_size, gradient_checkpointing: true, a base in nf4, or sharding: full and more "
    "gpus of models.<name>. For scoring: a smaller batch_size of the rule generate, or backend: vllm of tasks.<name>. "
    "`pissa plan --card` counts what a training takes."
)


class UserError(Exception):
    """Something the user can mend: the message names the value, the place and the choices."""


class NoRoom(UserError):
    """A disk without room for what was to be written, in which nothing is wrong."""


def unknown(kind: str, word: object, choices: Iterable[object], place: str) -> UserError:
    """Build the error for a word that is not known: the place, the nearest word, all choices."""
    names = sorted(str(choice) for choice in choices)
    near = difflib.get_close_matches(str(word), names, n=1, cutoff=0.5)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    shown = str(word) if str(word).isprintable() else ascii(word)[1:-1]
    return UserError(f"{place}: unknown {kind} '{shown}'.{hint} Choices: {', '.join(names) or '(none)'}.")


def failed_write(error: Exception) -> OSError | None:
    """The error of a write that failed, for safetensors and torch have types of their own; None for any other."""
    if isinstance(error, OSError):
        return error if error.errno in FULL + FORBIDDEN else None
    found = re.search(r"\(os error (\d+)\)", str(error))  # safetensors
    if found and int(found[1]) in FULL + FORBIDDEN:
        return OSError(int(found[1]), os.strerror(int(found[1])))
    if "I/O error" in str(error) or "PytorchStreamWriter" in str(error):
        return OSError(errno.EIO, str(error))
    return None


def out_of_memory(error: Exception) -> bool:
    """Whether a card had no room for a tensor. torch is not imported for it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(error, torch.OutOfMemoryError)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name `path` in the error of a write that failed within and names no file. Raises OSError for it."""
    try:
        yield
    except Exception as error:
        failed = failed_write(error)
        if failed is None or failed.filename is not None or failed.errno not in FULL:
            raise
        raise OSError(failed.errno, failed.strerror, str(path)) from error


class Stopped(KeyboardInterrupt):
    """A signal that is no Ctrl-C ends the work: a batch system takes the machine back, or someone stops the job."""

    def __init__(self, number: int):
        super().__init__()
        self.number = number


def _terminate(number: int, frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends the process at once
    raise Stopped(number)


def run_stage(main: Callable[[], None]) -> None:
    """Run a stage's main; turn errors that a user can mend into one message and exit code 1.

    After Ctrl-C and other signals it cleans up and says what is kept; exit code 128 and the number: 130, 143 (SIGTERM).
    Where a process waits with the libraries loaded, a fork of it does the work.
    """
    if PRELOADED in os.environ:
        from pissa_repro.runtime.preloaded import hand_over  # what it imports, no command needs

        if (code := hand_over()) is not None:
            sys.exit(code)
    level = os.environ.get("PISSA_REPRO_LOG", "INFO").upper()
    logging.basicConfig(level=level, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_MININTERVAL", "10")  # libraries' bars: a line now and then in a log
    for chatty in ("httpx", "httpcore", "lm_eval", "datasets", "urllib3", "filelock", "bitsandbytes"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # an ASCII terminal shows \xb1 for what it does not have
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt as stop:
        print(INTERRUPTED, file=sys.stderr)
        sys.exit(128 + (stop.number if isinstance(stop, Stopped) else signal.SIGINT))
    except Exception as error:
        if out_of_memory(error):
            sys.exit(f"error: {error} {NO_MEMORY}")
        if (failed := failed_write(error)) is None:
            raise
        where = failed.filename or "a file"
        sys.exit(f"error: cannot read or write {where}: {failed.strerror}. Nothing unfinished was kept.")
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
