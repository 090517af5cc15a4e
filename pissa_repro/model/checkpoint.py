"""Read a model folder's weights straight from its safetensors, one matrix at a time.

What can be known from config.json and the files' headers is checked there, before a tensor is read.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pissa_repro.model import folder as model_folder
from pissa_repro.model import naming
from pissa_repro.model.header import Stored, header
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


class Weight(NamedTuple):
    """A target module's weight before it is read; shape is (out, in) also where (in, out) is stored."""

    path: Path
    dtype: str
    shape: tuple[int, int]
    transposed: bool


def files(folder: str | Path) -> list[Path]:
    """The model's safetensors, checked: a config beside them, no missing shard, headers intact, not quantized.

    Those that transformers reads; what else lies in the folder (consolidated.safetensors, .bin) is not the model.
    Raises UserError that names the file. Weights in other formats are refused: they can run code.
    """
    return sorted({tensor.path for tensor in stored(folder).values()})


def stored(folder: str | Path) -> dict[str, Stored]:
    """Every tensor of the model by its name, from the headers alone. Checks and raises as `files`."""
    config = model_folder.config(folder)
    tensors: dict[str, Stored] = {}
    for path, names in model_folder.weight_files(folder).items():
        found = header(path)
        if lacking := names - found.keys():
            raise UserError(f"{path}: lacks {min(lacking)}, which the index promises. Fetch it again.")
        if twice := tensors.keys() & found.keys():
            raise UserError(f"{path}: holds {min(twice)}, as does {tensors[min(twice)].path.name}. Fetch it again.")
        tensors |= found
    _refuse_quantized(folder, config, tensors)
    return tensors


def _refuse_quantized(folder: str | Path, config: dict[str, Any], tensors: dict[str, Stored]) -> None:
    """Raise UserError for weights in few bits: what quantization took is gone before the decomposition (pitfall 7)."""
    signs = [f"config.json has a {key}" for key in ("quantization_config", "compression_config") if config.get(key)]
    for name, tensor in tensors.items():
        if name.endswith(QUANTIZED):
            signs.append(f"{tensor.path.name} holds {name}")
        elif tensor.dtype not in FLOATS and _is_weight(name, tensor):
            signs.append(f"{name} in {tensor.path.name} is stored as {tensor.dtype}")
    if signs:
        raise UserError(
            f"{folder}: these weights are quantized already ({signs[0]}). Start from the full-precision model: "
            "a cell's quant quantizes it here, after the decomposition."
        )


def _is_weight(name: str, tensor: Stored) -> bool:
    """Whether a tensor of this name is a weight or a bias, and not a mask of GPT-2's attention (h.0.attn.bias)."""
    return name.endswith(".weight") or (name.endswith(".bias") and len(tensor.shape) == 1)


def fingerprint(folder: str | Path) -> str:
    """SHA-256 over the config, the tokenizer and the weights that are read: which bits the base is made of."""
    folder, digest = Path(folder), hashlib.sha256()
    weights = files(folder)
    for path in [folder / model_folder.CONFIG, *model_folder.tokenizer_files(folder), *weights]:
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def transposed(folder: str | Path) -> frozenset[str]:
    """The last components of the modules that are stored as (in, out): GPT-2's Conv1D layers; mostly none."""
    return naming.conv1d_layers(model_folder.config(folder))


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
    return as_matrix(weight, place.transposed, f"{module}.weight in {place.path}")


def as_matrix(stored: "torch.Tensor", transposed: bool, name: str) -> "torch.Tensor":
    """A stored weight as float32 (out, in), contiguous. transposed: it is (in, out). name: of it, for the error.

    Raises UserError for NaN or infinite values.
    """
    weight = (stored.t().contiguous() if transposed else stored).float()
    if not all_finite(weight):
        raise UserError(f"{name} holds NaN or infinite values; the checkpoint is damaged.")
    return weight


def all_finite(weight: "torch.Tensor") -> bool:
    """Whether a contiguous tensor holds no NaN and no infinity, without a temporary of its size.

    A sum with one of them is never finite. Where the sum alone overflows, the values are looked at.
    """
    return bool(weight.sum().isfinite()) or all(part.isfinite().all() for part in weight.flatten().split(2**20))
