"""A trained cell merged weight by weight, for an engine that reads a folder: no more than one weight is in memory.

Checks and files are those of merged.merged_model, bit for bit. A weight is read, and its base and its update made anew,
each time that it is used: for the logits before and after the training and after the merge, and to be written.
"""

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open

from pissa_repro.model import base as bases
from pissa_repro.model import checks as model_checks
from pissa_repro.model import classes, core, factors, keys, targets, whole
from pissa_repro.model.adapter import attach
from pissa_repro.model.base import Changes
from pissa_repro.model.folder import INDEX, is_file
from pissa_repro.model.header import header
from pissa_repro.model.lent import Lent
from pissa_repro.model.load import DTYPES, lent_base
from pissa_repro.model.merged import Merged, TrainedCell, checked, merged_model
from pissa_repro.model.streamed import opened
from pissa_repro.runtime.record import write_json
from pissa_repro.runtime.record_types import ModelRecord


class NotStreamedError(Exception):
    """A cell that has to be merged as a whole."""


class Streamed(NamedTuple):
    """As merged.Merged, but that no weight of the model is in memory.

    lent: what the merged weights are read from and changed by. dtype: that the training had the other weights in.
    """

    lent: Lent
    dtype: torch.dtype
    checks: dict[str, float]
    logits: torch.Tensor
    untrained: torch.Tensor

    @property
    def model(self) -> Any:
        """The model without its weights; its configs are what is written."""
        return self.lent.model

    @torch.no_grad()
    def save(self, folder: str | Path, dtype: str) -> None:
        """Write the merged model in a dtype into an existing folder: the files of its source, tensor by tensor.

        Raises UserError for values that the dtype cannot hold.
        """
        out, source = Path(folder), self.lent.folder
        names = {one.tensors[0][0]: name for name, one in self.lent.sources.items() if one.converter is None}
        files = whole.shards(source, dtype)
        for shard in files:
            with opened(out / shard.source.name, shard.places) as put:
                for name, place in shard.places.items():
                    put(whole.cast(self._made(shard, name, names.get(name)), place, f"{name} in {shard.source}"))
        if is_file(Path(source) / INDEX):
            write_json(out / INDEX, whole.index(files))
        config = copy.deepcopy(self.model.config)
        config.dtype, config.architectures = dtype, [type(self.model).__name__]
        config.save_pretrained(out)
        self.model.generation_config.save_pretrained(out)

    def _made(self, shard: whole.Shard, name: str, own: str | None) -> torch.Tensor:
        """A tensor of the merged model as the files store it. own: the weight that it is; None for a part of one."""
        if own in self.lent.changes:
            return self.lent.changes[own](self.lent.read(own))
        with safe_open(shard.source, framework="pt") as file:
            tensor: torch.Tensor = file.get_tensor(name)
        part = own is None and tensor.is_floating_point()  # transformers joins it with others
        return tensor.float().to(self.dtype) if part else tensor


def streamed_model(
    cell: TrainedCell, stored: ModelRecord, prompts: list[list[int]], device: torch.device | str | None = None
) -> Streamed | Merged:
    """The cell with its factors merged, float32, to be written. Checks and raises as `merged_model`.

    Cells that take more than reading weights one by one are merged in memory: those with classes, with DoRA, with
    biases or whole modules trained beside the factors, and adapters that were trained elsewhere.
    """
    try:
        return _streamed(cell, stored, prompts, device)
    except NotStreamedError:
        return merged_model(cell, stored, prompts, device)


def _streamed(
    cell: TrainedCell, stored: ModelRecord, prompts: list[list[int]], device: torch.device | str | None
) -> Streamed:
    train: Any = cell.spec
    if train["stage"] == "adopt" or classes.head_of(cell.trained, train):
        raise NotStreamedError
    lent = lent_base(stored["path"], device)
    dtype = "float32"
    if train["stage"] == "base":
        dtype = train["dtype"]
        made = {}
        if train["quant"] != "none":
            made = bases.quantizing(lent.model, targets.chosen(stored["path"], train), train["quant"])
        _lend(lent, made, dtype)
        before = after = merged = _logits(lent, lent.model, prompts)
    elif train["init"] is None:
        before = _logits(lent, lent.model, prompts)
        lent = lent_base(cell.trained, device)
        _lend(lent, {}, dtype)
        after = merged = _logits(lent, lent.model, prompts)
    else:
        dtype = train["settings"]["dtype"]
        before, after = _with_factors(cell, stored, prompts, lent)
        merged = _logits(lent, lent.model, prompts)
    return Streamed(lent, DTYPES[dtype], checked(cell, before, after, merged), merged, before)


def _with_factors(
    cell: TrainedCell, stored: ModelRecord, prompts: list[list[int]], lent: Lent
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of a cell with factors before and after its training; `lent` then has the weights merged."""
    train: Any = cell.spec
    trained = factors.trained_factors(cell.trained)
    if cell.init is None or not all(keys.part_of(key)[1] for key in header(trained / factors.FACTORS)):
        raise NotStreamedError
    made = bases.changes(lent.model, factors.load(cell.init, stored), train["quant"])
    _lend(lent, made, train["settings"]["dtype"])
    adapter = attach(lent.model, cell.init, train["lora"])
    before = _logits(lent, adapter, prompts)
    wrapped = attach(adapter.unload(), trained, start=cell.init)
    after = _logits(lent, wrapped, prompts)
    layers = dict(core.layers(wrapped))
    wrapped.unload()
    for name, layer in layers.items():
        lent.changes[f"{name}.weight"] = partial(_updated, lent.changes[f"{name}.weight"], layer)
    return before, after


def _lend(lent: Lent, made: Changes, dtype: str) -> None:
    """Let every weight be lent rounded to the dtype, those of `made` after their change."""
    if not made.keys() <= lent.rests.keys() or len(lent.rests) != len(list(lent.model.parameters())):
        raise NotStreamedError
    lent.changes = {name: partial(_rounded, made.get(name), DTYPES[dtype]) for name in lent.rests}


def _rounded(
    change: Callable[[torch.Tensor], torch.Tensor] | None, dtype: torch.dtype, weight: torch.Tensor
) -> torch.Tensor:
    return (weight if change is None else change(weight)).to(dtype).float()


def _updated(change: Callable[[torch.Tensor], torch.Tensor], layer: Any, weight: torch.Tensor) -> torch.Tensor:
    """The base of a weight and its update, as PEFT's merge adds it."""
    return change(weight).add_(layer.get_delta_weight(core.ADAPTER))


def _logits(lent: Lent, model: Any, prompts: list[list[int]]) -> torch.Tensor:
    """Logits (n, vocabulary) with the weights lent. Raises NotStreamedError for a model that has others, too."""
    with lent.lending():
        found = model_checks.logits(model, prompts)
    if not found.isfinite().all():
        raise NotStreamedError
    return found
