"""Read a model folder's weights straight from its safetensors, one matrix at a time."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pissa_repro.errors import UserError

if TYPE_CHECKING:
    import torch


def files(folder: str | Path) -> list[Path]:
    """The model's safetensors, checked: a config beside them, no missing shard, headers intact.

    As transformers reads them: the shards of the index, or model.safetensors; what else lies in the
    folder (consolidated.safetensors) is not the model. Raises UserError that names the file. Weights
    in other formats are refused: they can run code.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: not a model folder (no config.json).")
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        found = sorted({folder / name for name in _read(index, "weight_map").values()})
    else:
        found = [folder / "model.safetensors"]
        if not found[0].is_file():
            raise UserError(
                f"{folder}: neither model.safetensors nor {index.name} with its shards; "
                "other formats are refused. Convert the weights first."
            )
    for path in found:
        if not path.is_file():
            raise UserError(f"{path}: this shard is missing. Fetch the model again.")
        _check_header(path)
    if _read(folder / "config.json").get("quantization_config"):
        raise UserError(f"{folder}: these weights are quantized already. Start from the full-precision model.")
    return found


def _read(path: Path, key: str | None = None) -> dict:
    """A JSON object, or the object under one of its keys. Raises UserError when it is neither."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        found = found[key] if key else found
        found.values()
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path}: damaged. Fetch the model again.") from None
    return found


def _check_header(path: Path) -> None:
    """Compare the file's size with what its header promises (a cut download has a good start)."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(size)) if size < 10**8 else None
            end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
        except (ValueError, TypeError, AttributeError, KeyError, MemoryError):
            raise UserError(f"{path}: damaged safetensors header. Fetch the model again.") from None
    if path.stat().st_size != 8 + size + end:
        raise UserError(f"{path}: {path.stat().st_size} bytes, its header promises {8 + size + end}. Fetch it again.")


def fingerprint(folder: str | Path) -> str:
    """SHA-256 over the config, the tokenizer and the weights: which bits the base is made of."""
    folder, digest = Path(folder), hashlib.sha256()
    weights = files(folder)
    for path in [folder / "config.json", *sorted(folder.glob("tokenizer*")), *weights]:
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def matching(names: list[str], targets: list[str]) -> dict[str, list[str]]:
    """The modules that each target stands for: those whose name ends in it.

    Raises UserError for a target that matches no module.
    """
    modules = [name.removesuffix(".weight") for name in names if name.endswith(".weight")]
    found = {t: [m for m in modules if m == t or m.endswith(f".{t}")] for t in targets}
    for target, hits in found.items():
        if not hits:
            layers = sorted({name.rsplit(".", 1)[-1] for name in modules})
            raise UserError(
                f"config.train.target_modules: '{target}' matches no module of the model. "
                f"Its modules end in: {', '.join(layers)}."
            )
    return found


def target_names(folder: str | Path, target_modules: list[str]) -> dict[str, Path]:
    """The target modules in natural order, each with the file that holds its weight.

    Raises UserError for a target that matches nothing.
    """
    from safetensors import safe_open

    where = {}
    for path in files(folder):
        with safe_open(path, framework="pt") as shard:
            where |= dict.fromkeys(shard.keys(), path)
    modules = {module for hits in matching(sorted(where), target_modules).values() for module in hits}
    return {module: where[f"{module}.weight"] for module in sorted(modules, key=_natural)}


def targets(folder: str | Path, target_modules: list[str]) -> Iterator[tuple[str, "torch.Tensor"]]:
    """Walk the target modules: (module name, weight in float32, shape (out, in)), in natural order.

    Only one weight is in memory at a time. Raises UserError for a target without a match, a weight
    that is not a matrix, and for NaN or infinite values.
    """
    from safetensors import safe_open

    for module, path in target_names(folder, target_modules).items():
        with safe_open(path, framework="pt") as shard:
            weight = shard.get_tensor(f"{module}.weight")
        if weight.ndim != 2:
            raise UserError(f"{module}.weight has shape {tuple(weight.shape)}; only matrices have singular values.")
        weight = weight.float()
        if not weight.isfinite().all():
            raise UserError(f"{module}.weight holds NaN or infinite values; the checkpoint is damaged.")
        yield module, weight


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]
