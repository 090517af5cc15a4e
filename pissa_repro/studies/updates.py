"""How far a training has moved each module, and the spectrum of that."""

from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from pissa_repro.linalg.gram import frobenius, values
from pissa_repro.model import checkpoint, factors
from pissa_repro.model.factors import Factors
from pissa_repro.model.naming import counterparts
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.progress import track
from pissa_repro.runtime.record_types import ModelRecord

KEPT = 256  # singular values of a module that a record keeps, the largest ones; the sums are over all


def measure_updates(model: ModelRecord, start: Path | None, trained: Path) -> dict[str, Any]:
    """For each module |dW| / |W| (Frobenius norms), the largest singular values of dW over |W|, and two ranks.

    start: the folder of the initial factors; None where every weight trained. stable_rank: |dW|^2 over the largest
    squared singular value; effective_rank: exp of the entropy of the squared ones over their sum (after Roy and
    Vetterli 2007, "The effective rank"). Both are None where nothing moved. Raises UserError for more than factors
    (DoRA), or for trained weights that are not the model's.
    """
    found = _of_weights(model["path"], trained) if start is None else _of_factors(model, start, trained)
    modules = {name: _facts(weight, spectrum) for name, weight, spectrum in found}
    return {"modules": modules, "mean": fmean(facts["size"] for facts in modules.values())}


def low_rank_values(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """The singular values, falling, of left (out, k) @ right (k, in), float64; the product itself is not made."""
    first, second = (torch.linalg.qr(side.double(), mode="r").R for side in (left, right.mT))
    return torch.linalg.svdvals(first @ second.mT)


def _of_factors(model: ModelRecord, start: Path, trained: Path) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    """Of s B C A, less what it was at the start: at most twice the rank."""
    initial = factors.load(start, model)
    last = factors.load_trained(trained, initial)
    walk = checkpoint.targets(model["path"], list(initial.A))
    for name, weight in track(walk, "updates", len(initial.A)):
        sides = _wide(last, name, 1.0), _wide(initial, name, -1.0)
        rows = torch.cat([last.A[name], initial.A[name]])
        yield name, weight, low_rank_values(torch.cat(sides, dim=1), rows)


def _wide(some: Factors, name: str, sign: float) -> torch.Tensor:
    return sign * some.scaling(name) * some.wide(name).double()


def _of_weights(folder: str, trained: Path) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    """Of every projection of the layers."""
    wanted = checkpoint.projections(folder)
    before, after = (checkpoint.weights(place, wanted) for place in (folder, trained))
    names = {name: other for other, name in counterparts(after, before).items()}
    if missing := sorted(before.keys() - names.keys()):
        raise UserError(f"{trained}: has no {missing[0]}, which {folder} has. Delete it and run again.")
    pairs = zip(checkpoint.targets(folder, wanted), checkpoint.targets(trained, wanted), strict=True)  # the same order
    for (name, weight), (other, new) in track(pairs, "updates", len(names)):
        if names[name] != other or new.shape != weight.shape:
            raise UserError(f"{trained}: {other} stands where {folder} has {name}. Delete it and run again.")
        yield name, weight, values(new - weight)


def _facts(weight: torch.Tensor, spectrum: torch.Tensor) -> dict[str, Any]:
    norm = frobenius(weight).item() or 1.0
    squares = spectrum.double().square()
    total = squares.sum()
    share = squares / total if total > 0 else None
    entropy = None if share is None else -(share * share.clamp(min=1e-300).log()).sum()
    return {
        "size": total.sqrt().item() / norm,
        "values": (spectrum[:KEPT].double() / norm).tolist(),
        "stable_rank": None if share is None else (1 / share[0]).item(),
        "effective_rank": None if entropy is None else entropy.exp().item(),
    }
