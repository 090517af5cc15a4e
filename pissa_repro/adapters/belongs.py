"""Whether an adapter belongs to a base model: by its names and shapes, and by what a few weights say."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open

from pissa_repro import quantizers
from pissa_repro.adapters import bases
from pissa_repro.adapters.folder import CONFIG, Adapter
from pissa_repro.adapters.pair import refuse_infinite
from pissa_repro.model import checkpoint, naming
from pissa_repro.model.adopted import refuse_misfit
from pissa_repro.model.architecture import CAUSAL, Architecture
from pissa_repro.model.base import sharing
from pissa_repro.model.checks import relative_difference
from pissa_repro.model.factors import product
from pissa_repro.model.header import Stored, header
from pissa_repro.model.skeleton import bare, folder_architecture, skeleton
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record_types import ModelRecord

LOOKED_AT = 24  # modules, spread over the layers
# Cosine between s B A and W within the factors' own spaces. What an initialisation takes out of W has 1, and 60 steps
# at 3e-3 on the embedded model leave 0.80 and more; an update says nothing about W, and has 0 plus chance: by rank r
# and k modules a standard deviation of 1 / (r sqrt(k)), of which CHANCE are allowed.
TAKEN, CHANCE = 0.5, 3.0
ROUNDED = {"F32": 1e-5, "F16": 2.0**-10, "BF16": 2.0**-8}  # |difference| / |residual| of one stored in that dtype
TRUST = "If it is right, say `trust: true` (--trust)."


def check_fit(adapter: Adapter, stored: ModelRecord) -> None:
    """Raise UserError for an adapter of another model, by the base that it names, its modules and their shapes; for one
    of a model that is not causal, on a weight that two modules share, and for one whose numbers are none.
    """
    _check_named(adapter, stored)
    _check_causal(adapter, folder_architecture(stored["path"]))
    shapes = {key: tensor.shape for key, tensor in adapter.tensors.items()}
    refuse_misfit(skeleton(stored["path"]), (adapter.path, adapter.config), shapes)
    for module in sharing(bare(stored["path"]), adapter.modules):
        raise UserError(
            f"{adapter.path}: has factors on {module}, whose weight {stored['name']} shares between its embedding and "
            "its head: merged into the one they would change the other, so no merged model is what was trained."
        )
    with safe_open(adapter.weights, framework="pt") as opened:
        for key in adapter.tensors:
            refuse_infinite(adapter, key, opened.get_tensor(key))


def _check_named(adapter: Adapter, stored: ModelRecord) -> None:
    """Raise UserError where the folder says which weights it is of, and they are others."""
    known = bases.fingerprint(adapter) or stored["fingerprint"]
    if known != stored["fingerprint"]:
        raise UserError(
            f"{adapter.path}: made for the weights {known[:12]}, and those of {stored['name']} are "
            f"{stored['fingerprint'][:12]}."
        )
    name, revision = adapter.config.get("base_model_name_or_path"), adapter.config.get("revision")
    commits = (revision, stored["commit"])
    if name == stored["name"] and all(commits) and len(str(revision)) == 40 and commits[0] != commits[1]:
        raise UserError(
            f"{adapter.path}: its config names revision {revision} of {name}, the base is revision {stored['commit']}."
        )


def _check_causal(adapter: Adapter, kind: Architecture) -> None:
    """Raise UserError where the base or the adapter is no causal model's; PEFT takes an adapter without a task_type."""
    named = adapter.config.get("task_type") or kind.task_type
    if other := next((one for one in (kind.task_type, named) if one != CAUSAL.task_type), None):
        where = "the base is" if other == kind.task_type else "task_type is"
        raise UserError(
            f"{adapter.path}: {where} {other}, and only adapters of causal models ({CAUSAL.task_type}) are adopted."
        )


def other_name(adapter: Adapter, stored: ModelRecord) -> str | None:
    """A sentence on the base that an adapter names, where that is another hub id than the model's; None otherwise."""
    name, _ = bases.configured(adapter)
    if name is None or name == stored["name"]:
        return None
    return f"Its config names the base {name}; it is scored on {stored['name']}."


class Likeness(NamedTuple):
    """A cosine, -1 to 1, and what it must be above to say something."""

    cosine: float
    limit: float

    @property
    def taken(self) -> bool:
        """Whether the factors are a part of the weights, as of an adapter that lies on a residual."""
        return self.cosine > self.limit


def likeness(adapter: Adapter, folder: str) -> Likeness:
    """How much s B A of an adapter looks like a part of the weights of the model in `folder`.

    Within the spaces of A's rows and B's columns, over a few modules together; float32.
    """
    inner, lengths, count = 0.0, [0.0, 0.0], 0
    for weight, a, b, _ in _matrices(adapter, folder):
        count += 1
        columns, rows = (torch.linalg.qr(side)[0] for side in (b, a.mT.contiguous()))
        within, own = (columns.mT @ matrix @ rows for matrix in (weight, b @ a))
        inner += float((within * own).sum())
        lengths = [total + float((matrix**2).sum()) for total, matrix in zip(lengths, (within, own), strict=True)]
    cosine = inner / (lengths[0] * lengths[1]) ** 0.5 if all(lengths) else 0.0
    return Likeness(cosine, max(TAKEN, CHANCE / (adapter.rank * max(1, count) ** 0.5)))


def start_beside(residual: Path) -> Path:
    """The folder of the start in a residual's: pissa_init/ or another _init/; else what `folder.read` finds there."""
    inside = sorted(path.parent for path in residual.glob(f"*_init/{CONFIG}"))
    return inside[0] if len(inside) == 1 else residual


def check_residual(start: Adapter, residual: Path, quant: str, stored: ModelRecord) -> str:
    """A line on how well W - s B0 A0 of the base is the residual, or that quantized, as it may be stored.

    Raises UserError where it is another model's.
    """
    tensors = {name: one for path in sorted(residual.glob("*.safetensors")) for name, one in header(path).items()}
    if not tensors:
        raise UserError(f"{residual}: holds no safetensors of a residual model.")
    worst, compared = 0.0, 0
    keys = naming.counterparts((f"{name}.weight" for name in start.modules), tensors)
    for weight, a, b, name in _matrices(start, stored["path"]):
        key = keys.get(f"{name}.weight")
        if key is None or tensors[key].dtype not in ROUNDED:
            continue
        offset, there = product(a, b, start.modules[name].scaling), _tensor(tensors[key], key)
        rest = weight - offset
        if there.shape != rest.shape:
            there = there.mT  # GPT-2's layers
        if there.shape != rest.shape:
            raise UserError(f"{residual}: {key} is {tuple(there.shape)}, the base's {name} {tuple(rest.shape)}.")
        forms = [rest, *([quantizers.base_weight(weight, offset, quant)] if quant != "none" else [])]
        difference, compared = min(relative_difference(there, form) for form in forms), compared + 1
        dtypes = (tensors[key].dtype, start.tensors[start.modules[name].a].dtype)
        limit = max(ROUNDED[dtype] for dtype in dtypes)
        if not difference <= limit:  # NaN too
            raise UserError(
                f"{residual}: {key} is not the base's weight less the start in {start.path} (off by {difference:.1e}, "
                f"stored in {dtypes[0]}: limit {limit:.1e}). It was made from another model or revision."
            )
        worst = max(worst, difference)
    if not compared:
        raise UserError(
            f"{residual}: holds no weight of the start's modules in floating point, so it cannot be checked."
        )
    return f"The residual is the base less the start: off by {worst:.1e} at most in {compared} weights."


def _matrices(adapter: Adapter, folder: str) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor, str]]:
    """W (out, in), A (r, in), B (out, r), float32, and the name, of some linear modules that an adapter has."""
    places = _places(adapter, folder)
    with safe_open(adapter.weights, framework="pt") as opened:
        for place, weight in checkpoint.targets(folder, list(places)) if places else ():
            module = adapter.modules[places[place]]
            yield weight, opened.get_tensor(module.a).float(), opened.get_tensor(module.b).float(), places[place]


def _places(adapter: Adapter, folder: str) -> dict[str, str]:
    """Some linear modules of an adapter, spread over the layers, by the names that the model's files have for them."""
    names = [name for name, module in adapter.modules.items() if not _is_table(name, module.a)]
    names.sort(key=naming.natural)
    step = max(1, len(names) // LOOKED_AT)
    some = (f"{name}.weight" for name in names[::step][:LOOKED_AT])
    found = naming.counterparts(some, checkpoint.stored(folder))
    return {place.removesuffix(".weight"): name.removesuffix(".weight") for name, place in found.items()}


def _is_table(name: str, key: str) -> bool:
    return naming.is_embedding(name) or ".lora_embedding_" in key


def _tensor(place: Stored, key: str) -> Any:
    with safe_open(place.path, framework="pt") as opened:
        return opened.get_tensor(key).float()
