"""Errors that a user can act on, and the wrapper that every stage runs under."""

import difflib
import errno
import logging
import os
import sys
from collections.abc import Callable, Iterable

INTERRUPTED = "interrupted: finished outputs are kept, run the same command to go on"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.EEXIST)


class UserError(Exception):
    """Something the user can mend: the message names the value, the place and the choices."""


def unknown(kind: str, word: object, choices: Iterable[object], place: str) -> UserError:
    """Build the error for a word that is not known: the place, the nearest word, all choices."""
    names = sorted(str(choice) for choice in choices)
    near = difflib.get_close_matches(str(word), names, n=1, cutoff=0.5)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return UserError(f"{place}: unknown {kind} '{word}'.{hint} Choices: {', '.join(names) or '(none)'}.")


def run_stage(main: Callable[[], None]) -> None:
    """Run a stage's main; turn errors that a user can mend into one message and exit code 1."""
    level = os.environ.get("PISSA_REPRO_LOG", "INFO").upper()
    logging.basicConfig(level=level, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_MININTERVAL", "10")  # libraries' bars: a line now and then in a log
    for chatty in ("httpx", "httpcore", "lm_eval", "datasets", "urllib3", "filelock", "bitsandbytes"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        if error.errno in FULL + FORBIDDEN:
            where = error.filename or "an output file"
            sys.exit(f"error: cannot read or write {where}: {error.strerror}. Nothing unfinished was kept.")
        raise
    except Exception as error:  # safetensors and torch have types of their own for a failed write
        if "I/O error" in str(error) or "PytorchStreamWriter" in str(error):
            sys.exit(f"error: cannot read or write the weights: {error}. Nothing unfinished was kept.")
        raise
