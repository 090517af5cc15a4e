"""Whether a base model's folder is the one that an adapter needs: by names, shapes, revision and hash."""

import re
from pathlib import Path
from typing import NamedTuple

from pissa_repro.adapters.folder import Adapter, is_embedding
from pissa_repro.model import checkpoint
from pissa_repro.model.folder import CONFIG, read_json, weight_files
from pissa_repro.model.header import Stored, header
from pissa_repro.model.naming import counterparts, natural
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
    if needed.form == "residual" and not starts:
        return Fit(None, "nothing in it says that it is the residual that is needed (no *_init folder)")
    if config.get("quantization_config"):
        return Fit(
            None if needed.fingerprint is None else False, "it is quantized already, so no shape can be compared"
        )
    tensors = {name: one for path in weight_files(base) for name, one in header(path).items()}
    if reason := _misfit(adapter, tensors, bool(config.get("tie_word_embeddings", True))):
        return Fit(False, reason)
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


def _commit(base: Path) -> str | None:
    """The commit of a folder in the hub's cache (models--owner--name/snapshots/COMMIT)."""
    path = base.resolve()
    return path.name if path.parent.name == "snapshots" and COMMIT.fullmatch(path.name) else None


def _misfit(adapter: Adapter, tensors: dict[str, Stored], tied: bool) -> str | None:
    """Why factors do not belong on weights of these names and shapes; None where they do."""
    places = counterparts((f"{name}.weight" for name in adapter.modules), tensors)
    for name in sorted(adapter.modules, key=natural):
        module = adapter.modules[name]
        weight = tensors.get(places.get(f"{name}.weight", ""))
        if weight is None:
            if tied and name.rsplit(".", 1)[-1] == "lm_head":
                continue  # the embedding, which the files hold once
            return f"it has no module {name}: it is another kind of model, or has fewer layers"
        inner, outer = adapter.tensors[module.a].shape[1:], adapter.tensors[module.b].shape[:1]
        sides = (*outer, *inner) if not is_embedding(module.a) else (*inner, *outer)
        if sorted(weight.shape) != sorted(sides):
            return f"{name} is {weight.shape} in it, the factors are for {tuple(sides)}: it is of another size"
    if lacking := _lacking(adapter, tensors):
        return f"{lacking} has no factors, though the adapter's target_modules name it: the adapter is not whole"
    return None


def _lacking(adapter: Adapter, tensors: dict[str, Stored]) -> str | None:
    """A module of the base that the config's targets mean and the file has no factors of: a file that was cut."""
    config, targets = adapter.config, adapter.config.get("target_modules")
    if not isinstance(targets, list) or any(config.get(key) for key in ("layers_to_transform", "exclude_modules")):
        return None
    have = set(counterparts((f"{name}.weight" for name in adapter.modules), tensors).values())
    for key in sorted(tensors, key=natural):
        name = key.removesuffix(".weight")
        meant = name != key and any(name == target or name.endswith(f".{target}") for target in targets)
        if meant and key not in have and len(tensors[key].shape) == 2:
            return name
    return None
