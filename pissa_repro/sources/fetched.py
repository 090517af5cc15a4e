"""Models and datasets on this machine, and exactly which ones they are."""

from pathlib import Path
from typing import Any

from pissa_repro import embedded
from pissa_repro.model import checkpoint
from pissa_repro.model.folder import TOKENIZERS
from pissa_repro.runtime.errors import UserError, unknown
from pissa_repro.runtime.record import read_json, sha256
from pissa_repro.runtime.record_types import Base, Identity, ModelRecord
from pissa_repro.runtime.specs import DataSource, ModelSource
from pissa_repro.sources import hub
from pissa_repro.sources.rows import read_rows, select
from pissa_repro.sources.split import span

EMBEDDED = Path(__file__).parents[1] / "embedded" / "model"
WEIGHTS = ["model*.safetensors", "*.json", *TOKENIZERS]


def fetch_model(source: ModelSource) -> ModelRecord:
    """Find or download a model: {"path", "name", "commit", "fingerprint"}. Checks the weights' files."""
    commit = None
    if source.get("path") == "embedded":
        folder, name = EMBEDDED, embedded.NAME
    elif "path" in source:
        name = source["path"]
        folder = _folder(name)
    else:
        name = source["hub"]
        folder, commit = hub.download(name, source["revision"], "model", WEIGHTS, source.get("gated"))
    return {"path": str(folder), "name": name, "commit": commit, "fingerprint": checkpoint.fingerprint(folder)}


def _folder(path: str) -> Path:
    """The model folder that a config names, as an absolute path."""
    try:
        folder = Path(path).resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:  # a circle of links, a name that is too long, a null byte
        raise UserError(f"config.models: no such folder '{path}' ({error}).") from None
    if not folder.is_dir():
        raise UserError(f"config.models: '{path}' is a file, not a model folder.")
    return folder


def fetch_dataset(source: DataSource) -> tuple[list[dict[str, Any]], str | None]:
    """Rows of a dataset by its named fields, and the commit where it came from the hub."""
    place, commit = f"config.datasets ({source.get('path') or source['hub']})", None
    if source.get("path", "").startswith("embedded:"):
        return select(_generated(source), source, place), commit
    if "path" in source:
        path = Path(source["path"])
    else:
        folder, commit = hub.download(source["hub"], source["revision"], "dataset", [source["file"]], None)
        path = folder / source["file"]
        if not path.is_file():
            raise UserError(f"{place}.file: {source['hub']} at {commit} has no file '{source['file']}'.")
    return select(read_rows(path, set(source["fields"].values())), source, place), commit


def _generated(source: DataSource) -> list[dict[str, str]]:
    from pissa_repro.embedded import corpus, problems

    split, splits = source["path"].removeprefix("embedded:"), (*problems.SPLITS, corpus.SPLIT)
    if split not in splits:
        raise unknown("split", split, splits, "config.datasets.path embedded:<split>")
    rows = span(source.get("rows", 1000))[1]
    try:
        return corpus.held_out(rows) if split == corpus.SPLIT else problems.generate(split, rows)
    except ValueError as error:
        raise UserError(f"config.datasets.rows: {error}") from None


def stored_model(path: str | Path) -> ModelRecord:
    """The record of a fetched model. Raises UserError when its folder has gone since."""
    record: ModelRecord = read_json(path)
    if record["name"] == embedded.NAME:
        return {**record, "path": str(EMBEDDED)}  # it moves with the checkout
    if not Path(record["path"]).is_dir():
        raise UserError(f"{path}: the model folder {record['path']} has gone. Delete this record and run again.")
    return record


def public_name(stored: ModelRecord) -> str | None:
    """The hub id of a model that came from a hub; None for a folder, whose path leads nowhere on another machine."""
    return stored["name"] if stored["commit"] else None


def base_of(stored: ModelRecord) -> Base:
    """What a record says of the base model: name, commit where it came from a hub, fingerprint."""
    return {"name": stored["name"], "commit": stored["commit"], "fingerprint": stored["fingerprint"]}


def identities(stored: ModelRecord, rows: Path) -> Identity:
    """Which weights and which rows a stage has used, for its record; collect compares them."""
    return {"base": base_of(stored), "data_sha256": sha256(rows)}
