"""The ranks that a method gives the modules of a model from summaries of all of them."""

from collections.abc import Mapping

import torch

from pissa_repro import methods
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.specs import ModelStartSpec

ROOM = 0.1  # how far the mean of the ranks may lie from the cell's rank, as a share of it; half a rank at least


def spread(
    modules: dict[str, ModelStartSpec],
    summaries: Mapping[str, torch.Tensor],
    shapes: Mapping[str, tuple[int, int]],
) -> dict[str, ModelStartSpec]:
    """The specs of modules, each with the rank that its method gives it, and the alpha that keeps its scaling.

    summaries: by module; none of them leaves the ranks as they are. shapes: (out, in). Raises UserError
    for ranks that a module cannot have, and for ranks whose mean is another than the cell's.
    """
    if not summaries:
        return modules
    first = next(iter(modules.values()))
    method, wanted = first["method"], sum(spec["rank"] for spec in modules.values()) / len(modules)
    given = methods.load(method).ranks(round(wanted), summaries, first["options"])
    _check(method, given, wanted, {name: shapes[name] for name in modules})
    return {name: _of_rank(spec, given[name]) for name, spec in modules.items()}


def _check(method: str, given: Mapping[str, int], wanted: float, shapes: Mapping[str, tuple[int, int]]) -> None:
    place = f"method {method}: ranks()"
    if not isinstance(given, Mapping):
        raise UserError(f"{place} gives {given!r}; it must be the rank of every module by its name.")
    if given.keys() != shapes.keys():
        other = min(given.keys() ^ shapes.keys())
        raise UserError(f"{place} gives a rank to other modules than those of the model, such as {other}.")
    for name, rank in given.items():
        if type(rank) is not int or not 1 <= rank <= min(shapes[name]):
            limits = f"{name} {shapes[name]} has ranks from 1 to {min(shapes[name])}"
            raise UserError(f"{place} gives {rank!r}: {limits}.")
    mean = sum(given.values()) / len(given)
    if abs(mean - wanted) > max(0.5, ROOM * wanted):
        raise UserError(f"{place} gives ranks of mean {mean:.2f}; the cell's is {wanted:g}, with which it is compared.")


def _of_rank(spec: ModelStartSpec, rank: int) -> ModelStartSpec:
    """The spec with another rank, and with the alpha that leaves s = alpha / r, or alpha / sqrt(r), as it is."""
    share = rank / spec["rank"]
    return (
        spec
        if share == 1
        else {**spec, "rank": rank, "alpha": spec["alpha"] * (share**0.5 if spec["rslora"] else share)}
    )
