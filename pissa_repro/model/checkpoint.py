"""Read a model folder's weights straight from its safetensors, one matrix at a time.

What can be known from config.json and the files' headers is checked there, before a tensor is read.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pissa_repro.model import naming
from pissa_repro.model.naming import types as types  # checkpoint.types, beside checkpoint.projections
from pissa_repro.runtime.errors import UserError

if TYPE_CHECKING:
    import torch

FLOATS = ("F64", "F32", "F16", "BF16")  # safetensors' names
# Tensors that quantized checkpoints keep beside or instead of a weight: GPTQ and AWQ, bitsandbytes 4-bit
# and 8-bit, compressed-tensors, float8, HQQ.
QUANTIZED = (
    *(".qweight", ".weight.absmax", ".SCB", ".weight_format"),
    *(".weight_packed", ".weight_scale", ".weight_scale_inv", ".W_q"),
)
TARGETS = "config.train.target_modules"


class Stored(NamedTuple):
    """A tensor as a safetensors header describes it."""

    path: Path
    dtype: str  # as safetensors names it: F32, BF16, ...
    shape: tuple[int, ...]


class Weight(NamedTuple):
    """A target module's weight before it is read; shape is (out, in) also where (in, out) is stored."""

    path: Path
    dtype: str
    shape: tuple[int, int]
    transposed: bool


def files(folder: str | Path) -> list[Path]:
    """The model's safetensors, checked: a config beside them, no missing shard, headers intact, not quantized.

    As transformers reads them: the shards of the index, or model.safetensors; what else lies in the
    folder (consolidated.safetensors) is not the model. Raises UserError that names the file. Weights
    in other formats are refused: they can run code.
    """
    return sorted({tensor.path for tensor in stored(folder).values()})


def stored(folder: str | Path) -> dict[str, Stored]:
    """Every tensor of the model by its name, from the headers alone. Checks and raises as `files`."""
    config = _config(folder)
    tensors: dict[str, Stored] = {}
    for path, names in _shards(Path(folder)).items():
        header = _header(path)
        if names - header.keys():
            raise UserError(f"{path}: lacks {min(names - header.keys())}, which the index promises. Fetch it again.")
        tensors |= header
    _refuse_quantized(folder, config, tensors)
    return tensors


def _config(folder: str | Path) -> dict[str, Any]:
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise UserError(f"{folder}: not a model folder (no config.json).")
    return _read(path)


def _shards(folder: Path) -> dict[Path, set[str]]:
    """The files with weights, each with the tensors that an index says it holds."""
    index = folder / "model.safetensors.index.json"
    shards: dict[Path, set[str]] = defaultdict(set)
    if index.is_file():
        for name, file in _read(index, "weight_map").items():
            shards[folder / file].add(name)
    else:
        shards[folder / "model.safetensors"] = set()
        if not min(shards).is_file():
            raise UserError(
                f"{folder}: neither model.safetensors nor {index.name} with its shards; "
                "other formats are refused. Convert the weights first."
            )
    for path in shards:
        if not path.is_file():
            raise UserError(f"{path}: this shard is missing. Fetch the model again.")
    return shards


def _read(path: Path, key: str | None = None) -> dict[str, Any]:
    """A JSON object, or the object under one of its keys. Raises UserError when it is neither."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        content = content[key] if key else content
        content.values()
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path}: damaged. Fetch the model again.") from None
    return content


def _header(path: Path) -> dict[str, Stored]:
    """What the file holds; its size is compared with what its header promises (a cut download begins well)."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        try:
            header: Any = json.loads(file.read(size)) if size < 10**8 else None
            entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
            end = max(entry["data_offsets"][1] for entry in entries.values())
            tensors = {name: Stored(path, entry["dtype"], tuple(entry["shape"])) for name, entry in entries.items()}
        except (ValueError, TypeError, AttributeError, KeyError, MemoryError):
            raise UserError(f"{path}: damaged safetensors header. Fetch the model again.") from None
    if path.stat().st_size != 8 + size + end:
        raise UserError(f"{path}: {path.stat().st_size} bytes, its header promises {8 + size + end}. Fetch it again.")
    return tensors


def _refuse_quantized(folder: str | Path, config: dict[str, Any], tensors: dict[str, Stored]) -> None:
    """Raise UserError for weights in few bits: what quantization took is gone before the decomposition (trap 7)."""
    signs = [f"config.json has a {key}" for key in ("quantization_config", "compression_config") if config.get(key)]
    for name, tensor in tensors.items():
        if name.endswith(QUANTIZED):
            signs.append(f"{tensor.path.name} holds {name}")
        elif name.endswith(".weight") and tensor.dtype not in FLOATS:
            signs.append(f"{name} in {tensor.path.name} is stored as {tensor.dtype}")
    if signs:
        raise UserError(
            f"{folder}: these weights are quantized already ({signs[0]}). Start from the full-precision model: "
            "a cell's quant quantizes it here, after the decomposition."
        )


def fingerprint(folder: str | Path) -> str:
    """SHA-256 over the config, the tokenizer and the weights: which bits the base is made of."""
    folder, digest = Path(folder), hashlib.sha256()
    weights = files(folder)
    for path in [folder / "config.json", *sorted(folder.glob("tokenizer*")), *weights]:
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def transposed(folder: str | Path) -> frozenset[str]:
    """The last components of the modules that are stored as (in, out): GPT-2's Conv1D layers; mostly none."""
    return naming.conv1d_layers(_config(folder))


def projections(folder: str | Path) -> list[str]:
    """Target modules for who names none: every matrix in a numbered layer that is not an embedding.

    Llama: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj; GPT-2: attn.c_attn,
    attn.c_proj, mlp.c_fc, mlp.c_proj. Read from the headers. Raises UserError when there are none.
    """
    modules = {n.removesuffix(".weight"): t.shape for n, t in stored(folder).items() if n.endswith(".weight")}
    chosen = [
        module
        for module, shape in modules.items()
        if len(shape) == 2 and naming.is_numbered(module) and not naming.is_embedding(module)
    ]
    if not chosen:
        raise UserError(f"{folder}: no matrix in a numbered layer. Name the modules under {TARGETS}.")
    return naming.suffixes(chosen, modules.keys() - set(chosen))


def weights(folder: str | Path, target_modules: list[str]) -> dict[str, Weight]:
    """The target modules in natural order, each with its weight's place, dtype and shape; reads headers only.

    Raises UserError for a target that matches nothing, and for an embedding, a weight that is no
    matrix, and an empty one.
    """
    tensors, flipped = stored(folder), transposed(folder)
    hits = naming.matching(sorted(tensors), target_modules).values()
    chosen: dict[str, Weight] = {}
    for module in sorted({module for modules in hits for module in modules}, key=naming.natural):
        path, dtype, shape = tensors[f"{module}.weight"]
        reason = _refusal(module, shape)
        if reason:
            raise UserError(f"{TARGETS}: {module}.weight {shape} in {path} {reason}")
        (rows, columns), flip = shape, module.rsplit(".", 1)[-1] in flipped
        chosen[module] = Weight(path, dtype, (columns, rows) if flip else (rows, columns), flip)
    return chosen


def _refusal(module: str, shape: tuple[int, ...]) -> str | None:
    """Why a weight of this name and shape cannot be decomposed and given factors; None if it can."""
    if naming.is_embedding(module):
        return "is an embedding: a table to look up, with no input to project. Take it out of the targets."
    if len(shape) == 1:
        return "is a vector, as of a norm; only matrices have singular values. Take it out of the targets."
    if len(shape) != 2:
        return "is a convolution's kernel or a stack; only matrices have singular values. Take it out of the targets."
    return "is empty. Fetch the model again, or take it out of the targets." if 0 in shape else None


def shapes(folder: str | Path, target_modules: list[str]) -> dict[str, tuple[int, int]]:
    """The shape (out, in) of every target module, in natural order. Reads headers only; raises as `weights`."""
    return {module: weight.shape for module, weight in weights(folder, target_modules).items()}


def target_names(folder: str | Path, target_modules: list[str]) -> dict[str, Path]:
    """The target modules in natural order, each with the file that holds its weight. Raises as `weights`."""
    return {module: weight.path for module, weight in weights(folder, target_modules).items()}


def targets(folder: str | Path, target_modules: list[str]) -> Iterator[tuple[str, "torch.Tensor"]]:
    """Walk the target modules: (module name, weight in float32, shape (out, in), contiguous), in natural order.

    While a weight is read, this holds the stored tensor and its float32 copy and nothing else; who
    wants no more in memory drops the weight before going on. Raises UserError as `weights`, all of
    it before the first tensor is read, and for NaN or infinite values.
    """
    for module, place in weights(folder, target_modules).items():
        weight = _matrix(module, place)
        yield module, weight
        del weight


def _matrix(module: str, place: Weight) -> "torch.Tensor":
    from safetensors import safe_open

    with safe_open(place.path, framework="pt") as shard:
        weight = shard.get_tensor(f"{module}.weight")
    if place.transposed:
        weight = weight.t().contiguous()
    weight = weight.float()
    if not _all_finite(weight):
        raise UserError(f"{module}.weight in {place.path} holds NaN or infinite values; the checkpoint is damaged.")
    return weight


def _all_finite(weight: "torch.Tensor") -> bool:
    """Whether a matrix holds no NaN and no infinity, without a temporary of its size.

    A sum with one of them is never finite. Where the sum alone overflows, the rows are looked at.
    """
    return bool(weight.sum().isfinite()) or all(rows.isfinite().all() for rows in weight.split(256))
