"""What an upload of a folder would make public, what its card lacks, and what must not leave the machine."""

import json
import os
import platform
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.utils import filter_repo_objects

from pissa_repro.adapters import card, info
from pissa_repro.adapters.folder import CONFIG, config_of
from pissa_repro.model.header import header
from pissa_repro.runtime.errors import UserError

REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
NEVER_SENT = (".git/*", "*/.git/*", ".cache/huggingface/*", "*/.cache/huggingface/*")  # huggingface_hub leaves them out
# Files of a training or of a machine, by name, with what they hold.
PRIVATE = (
    (
        re.compile(r"(^|/)(optimizer|scheduler|scaler|rng_state\w*)\.(pt|pth|bin|safetensors)$"),
        "the state of a training",
    ),
    (re.compile(r"(^|/)(trainer_state\.json|training_args\.bin|checkpoint-\d+/.*)$"), "the state of a training"),
    (re.compile(r"(^|/)(events\.out\.tfevents.*|wandb/.*|.*\.log)$"), "a log, with the machine's name"),
    (re.compile(r"(^|/)(\.env.*|\.netrc|.*\.pem|id_(rsa|ed25519))$"), "secrets"),
    (re.compile(r"\.(bin|pt|pth|ckpt|pkl|pickle)$"), "a pickle, which can run code; safetensors is wanted"),
    (re.compile(r"(^|/)\.(?!gitattributes$|gitignore$)[^/]+"), "hidden"),
)
LOOKED_AT = 1024  # bytes: a file with a NUL among the first ones is no text
VOCABULARY = re.compile(r"(^|/)(tokenizer\.json|vocab\..*|merges\.txt|added_tokens\.json)$")  # words such as /home/
SECRETS = (
    (re.compile(r"\b(hf_[A-Za-z0-9]{20,}|sk-[\w-]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|AKIA[A-Z0-9]{16})\b"), "a token"),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"), "a private key"),
    (re.compile(r"(file://[\w.-]*|(?<![\w./~-]))/(home|root|Users|mnt|media|tmp|var|scratch|data\d*|work|srv|opt|nfs|gpfs|lustre)/[^\s\"'`)]+"),
     "a path of a machine"),
    (re.compile(r"\b[A-Z]:\\\\?[\w\\ .-]+"), "a path of a machine"),
    (re.compile(r"\"(hostname|host|user|username)\":"), "a field that names a machine or a person"),
)  # fmt: skip
SHOWN = 60  # characters of what was found; of a token four


@dataclass(frozen=True)
class Plan:
    """files: by their names in the repository, with sizes in bytes; private: what is not to be public, a line each."""

    folder: Path
    repo: str
    what: str
    files: dict[str, int]
    missing: list[str]
    private: list[str]
    exclude: list[str]
    secret: bool

    @property
    def command(self) -> str:
        """The same by the hub's own command."""
        words = ["hf", "upload", self.repo, str(self.folder), "."]
        words += [word for pattern in self.exclude for word in ("--exclude", pattern)]
        return shlex.join(words + (["--private"] if self.secret else []))


def plan(folder: Path, repo: str, exclude: list[str], secret: bool) -> Plan:
    """Look at all files that would be sent. secret: for a private repository.

    Raises UserError for a repository that is no owner/name, a folder that is nothing to publish, and a whole cell.
    """
    if not REPO.fullmatch(repo):
        raise UserError(f"REPO {repo}: the id of a repository on a hub is needed, owner/name.")
    found = info.examine(folder)
    if found.kind == "cell":
        raise UserError(
            f"DIR {folder}: a cell's folder has records of this machine. Push its trained/, which is made for others."
        )
    files = _files(folder, exclude)
    if not files:
        raise UserError(f"DIR {folder}: no file is left to push, with --exclude {' '.join(exclude)}.")
    private = [line for name in files for line in _private(folder, name)]
    return Plan(folder, repo, found.what, files, _missing(folder, found), private, exclude, secret)


def _files(folder: Path, exclude: list[str]) -> dict[str, int]:
    """What huggingface_hub's upload_folder takes, which follows links to files."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.glob("**/*") if path.is_file())
    kept = filter_repo_objects(names, ignore_patterns=[*exclude, *NEVER_SENT])
    return {name: (folder / name).stat().st_size for name in kept}


def _missing(folder: Path, found: info.Found) -> list[str]:
    """What a card or a config should say and does not."""
    fields, missing = card.header(folder), list[str]()
    if not (folder / "README.md").is_file():
        missing.append("README.md, the model card")
    else:
        wanted = ("base_model", "license", "library_name", "tags")
        missing += [f"{key} in the header of README.md" for key in wanted if key not in fields]
    if (folder / CONFIG).is_file():
        name = config_of(folder / CONFIG).get("base_model_name_or_path")
        if not isinstance(name, str) or not REPO.fullmatch(name):
            missing.append(f"a hub id in base_model_name_or_path of {CONFIG} (it is {name!r})")
    return missing + [note for note in found.notes if "tokenizer" in note]


def _private(folder: Path, name: str) -> Iterator[str]:
    """What must not be public of a file, by its name and by what it holds."""
    path = folder / name
    for pattern, what in PRIVATE:
        if pattern.search(name):
            yield f"{name}: {what}"
            return
    if not path.resolve().is_relative_to(folder.resolve()):
        yield f"{name}: a link to {path.resolve()}, outside of the folder"
        return
    for place, text in _texts(path, name):
        for pattern, what in (*SECRETS, *_machine()):
            if hit := pattern.search(text):
                shown = f"{hit[0][:4]}…" if what == "a token" else hit[0][:SHOWN]
                yield f"{name}{place}: {what}, {shown}"


def _texts(path: Path, name: str) -> Iterator[tuple[str, str]]:
    """The texts of a file that can hold such things, each with its place in the file."""
    if path.suffix == ".safetensors":
        header(path)  # whole and undamaged
        with open(path, "rb") as file:
            text = file.read(int.from_bytes(file.read(8), "little"))
        metadata: Any = json.loads(text).get("__metadata__", {})
        yield " (its metadata)", json.dumps(metadata)
    elif not VOCABULARY.search(name) and _is_text(path):
        with open(path, encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, 1):
                yield f" line {number}", line


def _is_text(path: Path) -> bool:
    with open(path, "rb") as file:
        return b"\0" not in file.read(LOOKED_AT)


def _machine() -> list[tuple[re.Pattern[str], str]]:
    """This machine's name and the user's, where they are no common words."""
    names = {platform.node(), os.environ.get("USER", "")} - {"localhost", "root", "user", "ubuntu"}
    found = [re.escape(name) for name in names if len(name) > 3]
    return [(re.compile(rf"\b({'|'.join(found)})\b"), "this machine's or user's name")] if found else []


def lines(asked: Plan) -> list[str]:
    """What is to be said before anything is sent."""
    width = max(len(f"{size:,}") for size in asked.files.values())
    return [
        f"{asked.folder}: {asked.what}",
        f"{'To' if asked.secret else 'Public in'} {asked.repo}: {len(asked.files)} files, "
        f"{sum(asked.files.values()):,} bytes",
        *(f"    {size:>{width},}  {name}" for name, size in asked.files.items()),
        *(f"missing: {one}" for one in asked.missing),
        *(f"MUST NOT be public: {one}" for one in asked.private),
    ]


def upload(asked: Plan) -> str:
    """Send the files; the address of the commit. Raises UserError where something is private, or the hub refuses."""
    if asked.private:
        raise UserError(
            f"{len(asked.private)} things must not be public (above), so nothing was sent. Remove them, or leave files "
            "out with --exclude PATTERN."
        )
    from huggingface_hub import HfApi, errors

    api = HfApi()
    try:
        api.create_repo(asked.repo, private=asked.secret, exist_ok=True)
        made = api.upload_folder(
            repo_id=asked.repo, folder_path=asked.folder, ignore_patterns=asked.exclude, commit_message="Upload"
        )
    except errors.LocalTokenNotFoundError:
        raise UserError(f"{asked.repo}: no token. Run `hf auth login`, or set HF_TOKEN.") from None
    except (errors.HTTPError, OSError, ValueError) as error:
        raise UserError(
            f"{asked.repo}: the hub refused the upload: {' '.join(str(error).split())} Check HF_TOKEN (can it "
            "write?), HF_ENDPOINT and the network; run again to go on."
        ) from None
    return str(made.commit_url)
