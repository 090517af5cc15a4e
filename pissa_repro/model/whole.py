"""Write a model folder anew with some of its weights replaced: shard by shard, one tensor in memory at a time.

The files are named and divided as the source's are. Tensors that are not replaced keep their bits, or are cast; what
shares a weight (a head that is the embedding) stays one tensor. No model is loaded.
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open

from pissa_repro.model import checkpoint
from pissa_repro.model import folder as model_folder
from pissa_repro.model.header import Stored, header
from pissa_repro.model.streamed import Place, opened, order
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import atomic, write_json

DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}  # safetensors' names of those to choose from
TORCH = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
# What belongs to a model beside its config, weights and tokenizer, where it is there.
BESIDE = ("generation_config.json", "chat_template*", "LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*")
Change = Callable[[torch.Tensor], torch.Tensor]  # of a float32 weight (out, in), which it may overwrite
Changes = Callable[[torch.Tensor], Iterable[torch.Tensor]]  # the same, one after the other, for several folders


class Shard(NamedTuple):
    """One file of weights: the source's, and its tensors as they are to be written, in their order."""

    source: Path
    places: dict[str, Place]

    @property
    def size(self) -> int:
        """Bytes of its tensors."""
        return sum(place.size for place in self.places.values())


def tensors(folder: str | Path) -> dict[str, Stored]:
    """Every tensor of a model folder, which may be a residual, that is no base model; from the headers alone."""
    return {name: one for path in model_folder.weight_files(folder) for name, one in header(path).items()}


def shards(source: str | Path, dtype: str | None = None) -> list[Shard]:
    """The files that a folder with a model of this dtype has; None: each tensor as it is stored. Reads headers only.

    Raises UserError as checkpoint.stored: for what is no whole base model in floating point.
    """
    files: dict[Path, dict[str, Place]] = {}
    for name, tensor in checkpoint.stored(source).items():
        wanted = DTYPES[dtype] if dtype and tensor.dtype in checkpoint.FLOATS else tensor.dtype
        files.setdefault(tensor.path, {})[name] = Place(wanted, tensor.shape)
    return [Shard(path, {name: places[name] for name in order(places)}) for path, places in sorted(files.items())]


def write_model(source: str | Path, out: Path, replace: Mapping[str, Change], dtype: str | None = None) -> None:
    """Write the source's model into an existing folder; `replace` holds what is made of a weight, by its module.

    A module has the name that the files give it; its weight comes in float32 (out, in), also where (in, out) is stored
    (GPT-2), and so is what is returned. dtype: float32, bfloat16 or float16; None: as stored.
    Raises UserError as `shards`, for a module that the files do not have, and for values that the dtype cannot hold.
    """
    files = shards(source, dtype)
    changes = {module: _alone(change) for module, change in replace.items()}
    if absent := changes.keys() - {name.removesuffix(".weight") for shard in files for name in shard.places}:
        raise UserError(f"{source}: its files hold no weight of {min(absent)}.")
    for shard in files:
        write_shard(shard, [out], changes, checkpoint.transposed(source))
    write_beside(source, [out], files)


def _alone(change: Change) -> Changes:
    return lambda weight: (change(weight),)


def write_shard(
    shard: Shard, folders: Sequence[Path], changes: Mapping[str, Changes], transposed: frozenset[str]
) -> None:
    """Write one file into several folders at once, each tensor read once; it appears in all of them when it is whole.

    A replaced weight is made anew for each folder, in their order. transposed: last components of the modules that
    are stored as (in, out).
    """
    with ExitStack() as stack:
        puts = [stack.enter_context(opened(folder / shard.source.name, shard.places)) for folder in folders]
        for name in shard.places:
            module = name.removesuffix(".weight")
            change = changes.get(module) if module != name else None
            made = _made(shard, name, change, module.rsplit(".", 1)[-1] in transposed)
            for put in puts:
                put(next(made))  # no variable holds it while the next one is made


def _made(shard: Shard, name: str, change: Changes | None, flip: bool) -> Iterator[torch.Tensor]:
    """What is written for a tensor, into one folder after the other."""
    place, where = shard.places[name], f"{name} in {shard.source}"
    with safe_open(shard.source, framework="pt") as file:  # closed again, so that no page stays mapped
        tensor = file.get_tensor(name)
    if change is None:
        yield from repeat(cast(tensor, place, where))
        return
    weight = checkpoint.as_matrix(tensor, flip, where)
    del tensor
    for changed in change(weight):
        yield cast(changed.t() if flip else changed, place, where)
        del changed


def cast(tensor: torch.Tensor, place: Place, name: str) -> torch.Tensor:
    """The tensor in the dtype of its place. Raises UserError for values that this cannot hold."""
    wanted = TORCH.get(place.dtype, tensor.dtype)
    if tensor.dtype == wanted:
        return tensor
    made = tensor.to(wanted).contiguous()
    if not checkpoint.all_finite(made):
        raise UserError(f"{name}: values that {str(wanted).removeprefix('torch.')} cannot hold. Choose another dtype.")
    return made


def write_beside(source: str | Path, folders: Sequence[Path], files: Sequence[Shard]) -> None:
    """Write what makes the shards a model: config, index where the source has one, tokenizer, licence.

    The config names the dtype that most weights have, and no folder that the source came from.
    """
    source, dtypes = Path(source), Counter[str]()
    for shard in files:
        for place in shard.places.values():
            dtypes[place.dtype] += place.size if place.dtype in TORCH else 0
    config = {key: value for key, value in model_folder.config(source).items() if key != "_name_or_path"}
    key = "torch_dtype" if "torch_dtype" in config else "dtype"
    config[key] = str(TORCH[max(dtypes, key=lambda name: dtypes[name])]).removeprefix("torch.")
    beside = [path for pattern in BESIDE for path in sorted(source.glob(pattern)) if model_folder.is_file(path)]
    for folder in folders:
        with atomic(folder / model_folder.CONFIG) as file:
            json.dump(config, file, indent=2, sort_keys=True)  # not write_json: a config may hold infinite numbers
            file.write("\n")
        if model_folder.is_file(source / model_folder.INDEX):
            write_json(folder / model_folder.INDEX, index(files))
        for path in dict.fromkeys([*model_folder.tokenizer_files(source), *beside]):
            shutil.copyfile(path, folder / path.name)


def index(files: Sequence[Shard]) -> dict[str, object]:
    """What the index of a model in several files says."""
    places = {name: shard.source.name for shard in files for name in shard.places}
    return {"metadata": {"total_size": sum(shard.size for shard in files)}, "weight_map": places}
