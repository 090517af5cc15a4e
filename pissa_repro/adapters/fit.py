"""Whether a base model's folder is the one that an adapter needs: by names, shapes, revision and hash."""

import re
from pathlib import Path
from typing import NamedTuple

from pissa_repro.adapters import bases
from pissa_repro.adapters.folder import Adapter
from pissa_repro.model import checkpoint
from pissa_repro.model.adopted import refuse_misfit
from pissa_repro.model.folder import CONFIG, read_json, weight_files
from pissa_repro.model.header import header
from pissa_repro.model.peft_words import ONLY_FACTORS
from pissa_repro.model.skeleton import bare
from pissa_repro.runtime.errors import UserError

COMMIT = re.compile(r"[0-9a-f]{40}")


class Needed(NamedTuple):
    """The base that a folder needs, as far as it says: hub id or label, revision, the hash of its weights.

    form: "untouched", or "residual" for an adapter that no start is taken out for when it is loaded.
    """

    name: str | None
    revision: str | None
    fingerprint: str | None = None
    form: str = "untouched"


class Fit(NamedTuple):
    """right: None where names and shapes fit and nothing says which weights are meant."""

    right: bool | None
    said: str


def check(adapter: Adapter, needed: Needed, base: Path) -> Fit:
    """Compare what an adapter needs with a model folder. Raises UserError for a folder that is no whole model."""
    if not (base / CONFIG).is_file():
        raise UserError(f"--base {base}: not a model folder (no {CONFIG}).")
    config, starts = read_json(base / CONFIG), sorted(path.name for path in base.glob("*_init") if path.is_dir())
    if starts and needed.form == "untouched":
        return Fit(False, f"it is a residual (its start is in {starts[0]}/); the untouched model is needed")
    if config.get("quantization_config"):
        return Fit(
            None if needed.fingerprint is None else False, "it is quantized already, so no shape can be compared"
        )
    tensors = {name: one for path in weight_files(base) for name, one in header(path).items()}
    if reason := _misfit(adapter, base):
        return Fit(False, reason)
    if needed.form == "residual" and not starts:
        return _without_start(adapter, base)
    if needed.fingerprint:
        found = checkpoint.fingerprint(base)
        if found != needed.fingerprint:
            return Fit(False, f"its weights are {found[:12]}, {needed.fingerprint[:12]} are needed: another revision?")
        return Fit(True, f"its weights have the hash that is needed, {found[:12]}")
    commit = _commit(base)
    if needed.revision and commit and COMMIT.fullmatch(needed.revision):
        right = commit == needed.revision
        return Fit(right, f"it is revision {commit[:12]}, {'as' if right else f'{needed.revision[:12]} is'} needed")
    dtypes = ", ".join(sorted({one.dtype for one in tensors.values()}))
    return Fit(
        None,
        f"it has all {len(adapter.modules)} modules with the right shapes (in {dtypes}); nothing says which weights "
        "the adapter was trained on",
    )


def _without_start(adapter: Adapter, base: Path) -> Fit:
    """Of a model folder without a start, for an adapter that belongs on a residual; base.json names the model of it."""
    known = bases.belongs(adapter)
    if known.get("offset") and checkpoint.fingerprint(base) == known["fingerprint"]:
        return Fit(False, "it is the untouched model; the residual that was made of it is needed")
    return Fit(None, "nothing in it says that it is the residual that is needed (no *_init folder)")


def _commit(base: Path) -> str | None:
    """The commit of a folder in the hub's cache (models--owner--name/snapshots/COMMIT)."""
    path = base.resolve()
    return path.name if path.parent.name == "snapshots" and COMMIT.fullmatch(path.name) else None


def _misfit(adapter: Adapter, base: Path) -> str | None:
    """Why PEFT would not find the very factors on the model of a folder, which may be a residual; None where it does.

    Factors alone: what else was trained may belong to a head that the folder does not have.
    """
    factors = (key for module in adapter.modules.values() for key in (module.a, module.b))
    shapes = {key: adapter.tensors[key].shape for key in factors}
    try:
        refuse_misfit(bare(base), (adapter.path, adapter.config | ONLY_FACTORS), shapes)
    except UserError as error:
        return str(error).removeprefix(f"{adapter.path}: ").rstrip(".")
    return None
