"""Download from a hub at a pinned revision, with errors that say what to do."""

from pathlib import Path

from pissa_repro.errors import UserError


def download(
    repo: str, revision: str, kind: str, patterns: list[str], gated: str | None
) -> tuple[Path, str]:
    """A snapshot of a repository's files that match `patterns`: its folder and its commit.

    kind: "model" or "dataset". gated: what the user must accept, shown when access is refused.
    Files land in the hub's own cache (HF_HOME); an interrupted download goes on where it stopped.
    Raises UserError for a refused, missing or unreachable repository.
    """
    from huggingface_hub import errors, snapshot_download

    try:
        folder = snapshot_download(repo, revision=revision, repo_type=kind, allow_patterns=patterns)
    except errors.GatedRepoError:
        raise UserError(
            f"{repo} is gated. {gated or 'Accept its terms'} at https://huggingface.co/{repo}, then run "
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
    return Path(folder), Path(folder).name  # snapshots/<commit>
