"""Download from a hub at a pinned revision, with errors that say what to do."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from pissa_repro.runtime.errors import INTERRUPTED, UserError


def download(repo: str, revision: str, kind: str, patterns: list[str], gated: str | None) -> tuple[Path, str]:
    """A snapshot of a repository's files that match `patterns`: its folder and its commit.

    kind: "model" or "dataset". gated: what the user must accept, shown when access is refused.
    Files land in the hub's own cache (HF_HOME). After a cut connection a file goes on where it
    stopped; after a kill whole files are kept and the one in flight starts anew.
    Raises UserError for a refused, missing or unreachable repository.
    """
    from huggingface_hub import errors, snapshot_download

    try:
        with _stoppable():
            folder = snapshot_download(repo, revision=revision, repo_type=kind, allow_patterns=patterns)
    except errors.GatedRepoError:
        page = f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{repo}"
        raise UserError(
            f"{repo} is gated. {gated or 'Accept its terms'} at {page}, then run "
            "`hf auth login`, or put the token into the environment variable HF_TOKEN. The token is never recorded."
        ) from None
    except errors.RevisionNotFoundError:
        raise UserError(f"{repo}: no revision '{revision}' on the hub. Pin a commit or a tag that exists.") from None
    except errors.RepositoryNotFoundError:
        raise UserError(
            f"{repo}: no such {kind} on the hub, or it is private (then set HF_TOKEN). Check the id in the config."
        ) from None
    except errors.LocalEntryNotFoundError:
        raise UserError(
            f"{repo}: not in the local cache and the hub cannot be reached. Check the network, HF_ENDPOINT and "
            "HF_HUB_OFFLINE, or give a local folder as 'path'."
        ) from None
    except (errors.HTTPError, errors.FileMetadataError, ValueError) as error:  # refused, cut for good, or no hub at all
        raise UserError(
            f"{repo}: the download failed: {' '.join(str(error).split())} "
            "Run again; if it stays so, check HF_TOKEN and HF_ENDPOINT."
        ) from None
    return Path(folder), Path(folder).name  # snapshots/<commit>


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the process at once. The client would first finish its files, gigabytes each."""

    def stop(number: int, _: object) -> None:
        print(f"\n{INTERRUPTED}", file=sys.stderr, flush=True)
        os._exit(128 + number)

    if threading.current_thread() is not threading.main_thread():  # Python lets only that one set a handler
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
