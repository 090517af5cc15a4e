"""The toy of the paper's Figure 2a: two layers learn odd digits, then even ones by each method."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from pissa_repro import methods
from pissa_repro.linalg.spectrum import exact
from pissa_repro.model import factors
from pissa_repro.plan.toy import METHODS
from pissa_repro.runtime.progress import track
from pissa_repro.runtime.study_specs import ToySpec, ToyVariant
from pissa_repro.starts.make import generator, setting, spectrum
from pissa_repro.studies.digits import Digits, Task, task

if TYPE_CHECKING:
    from pissa_repro.runtime.specs import StartSpec

CLASSES = 5
GRID = 51  # points of the landscape along each direction
MARGIN = 0.1  # of the landscape around the paths, as released
Weights = list[torch.Tensor]  # the matrices (out, in) of the layers


@dataclass(frozen=True)
class Layer:
    """A layer in training: what trains of it, and its weight (out, in) made of that."""

    trained: Weights
    weight: Callable[[], torch.Tensor]


@dataclass(frozen=True)
class Run:
    """A training. losses: of each epoch, before its update. path: all weights at the same times, (epochs, n)."""

    losses: list[float]
    path: torch.Tensor


def layer(method: str, name: str, weight: torch.Tensor, rank: int, seed: int) -> Layer:
    """A layer as a method trains it: the whole weight, or factors of a rank on their base, alpha as the rank.

    A rank above the smaller side of the weight is as in PEFT: singular triples are as many as there are, a random A
    has that many rows. The contract of methods, which the sweep holds to, has no such rank.
    """
    if not methods.has_factors(method):
        return whole(weight)
    options = methods.options(method, "none", {}, "the toy")
    spec: StartSpec = {
        "method": method, "options": options, "quant": "none", "rank": rank, "alpha": float(rank), "rslora": False,
        "seed": seed,
    }  # fmt: skip
    given = setting(name, spectrum(name, weight), spec)
    start = methods.load(method).start(weight, given)
    base = weight - factors.product(*start.taken, given.scaling) if start.taken else weight
    a, b = (part.clone().requires_grad_() for part in (start.A, start.wide))
    return Layer([a, b], lambda: base + given.scaling * b @ a)


def whole(weight: torch.Tensor) -> Layer:
    """A layer whose weight trains itself."""
    trained = weight.clone().requires_grad_()
    return Layer([trained], lambda: trained)


def loss(weights: Weights, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy (nats) of two layers without bias, ReLU between them."""
    first, last = weights
    return functional.cross_entropy(functional.relu(x @ first.T) @ last.T, y)


def train(layers: list[Layer], data: tuple[torch.Tensor, torch.Tensor], epochs: int, rate: float) -> Run:
    """Train by Adam, all rows in one batch."""
    optimizer = torch.optim.Adam([part for one in layers for part in one.trained], rate)
    losses, path = [], []
    for _ in range(epochs):
        weights = [one.weight() for one in layers]
        value = loss(weights, *data)
        losses.append(value.item())
        path.append(torch.cat([weight.detach().flatten() for weight in weights]))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    return Run(losses, torch.stack(path))


def pretrained(given: Task, spec: ToySpec, generator: torch.Generator) -> Weights:
    """The weights that have learnt odd digits. They begin as torch.nn.Linear's do: U(-1/sqrt(in), 1/sqrt(in))."""
    layers = []
    for out, into in ((spec["hidden"], given.odd[0].shape[1]), (CLASSES, spec["hidden"])):
        layers.append(whole(torch.empty(out, into).uniform_(-(into**-0.5), into**-0.5, generator=generator)))
    train(layers, given.odd, spec["pretrain_epochs"], spec["learning_rate"])
    return [one.weight().detach() for one in layers]


def finetuned(weights: Weights, given: Task, spec: ToySpec, variant: ToyVariant, seed: int) -> dict[str, Run]:
    """The trainings on even digits by every method, all from the same weights."""
    runs = {}
    for method in METHODS:
        layers = [layer(method, f"layer{i}", weight, variant["rank"], seed) for i, weight in enumerate(weights)]
        runs[method] = train(layers, given.even, spec["epochs"], spec["learning_rate"])
    return runs


def landscape(runs: dict[str, Run], given: Task, shapes: list[torch.Size]) -> dict[str, Any]:
    """The paths of all methods on the two principal directions of the first one's, and the log loss on that plane.

    Places are distances from the common start; the plane lies through the end of the first path.
    """
    first = next(iter(runs.values())).path
    directions = exact(first - first.mean(0), 0, 2).Vh
    directions = directions * ((first[-1] - first[0]) @ directions.T).sign()[:, None]  # its way is to the right and up
    ways = {method: (run.path - run.path[0]) @ directions.T for method, run in runs.items()}
    every, end = torch.cat(list(ways.values())), next(iter(ways.values()))[-1]
    low, high = every.min(0).values, every.max(0).values
    room = MARGIN * (high - low).clamp(min=1e-6)
    x, y = (torch.linspace(float(low[i] - room[i]), float(high[i] + room[i]), GRID) for i in (0, 1))
    sizes = [shape.numel() for shape in shapes]

    def height(place: torch.Tensor) -> float:
        flat = first[-1] + (place - end) @ directions
        weights = [part.view(shape) for part, shape in zip(flat.split(sizes), shapes, strict=True)]
        return float(loss(weights, *given.even).log())

    grid = [[height(torch.stack([across, up])) for across in x] for up in y]
    return {"x": x.tolist(), "y": y.tolist(), "log_loss": grid, "paths": {m: way.tolist() for m, way in ways.items()}}


def seeds(digits: Digits, spec: ToySpec, variant: ToyVariant) -> Iterator[tuple[Task, Weights, dict[str, Run]]]:
    """The toy of every seed, which decides the rows, the first weights and random factors."""
    for seed in range(spec["seeds"]):
        given = task(digits, spec, variant, generator(seed, "rows"))
        weights = pretrained(given, spec, generator(seed, "weights"))
        yield given, weights, finetuned(weights, given, spec, variant, seed)


def measure_toy(digits: Digits, spec: ToySpec) -> dict[str, Any]:
    """For each variant the losses by method, a list for each seed, and the landscape of the first seed.

    Memory: the weights of every epoch of one seed's three trainings, 120 MB for whole MNIST images.
    """
    variants: dict[str, Any] = {}
    for name, variant in spec["variants"].items():
        losses: dict[str, list[list[float]]] = {method: [] for method in METHODS}
        for given, weights, runs in track(seeds(digits, spec, variant), f"toy, as {name}", spec["seeds"]):
            for method, run in runs.items():
                losses[method].append(run.losses)
            if name not in variants:
                shapes = [weight.shape for weight in weights]
                facts = {"odd": len(given.odd[1]), "even": len(given.even[1]), "shapes": [list(s) for s in shapes]}
                variants[name] = {**facts, "losses": losses, "landscape": landscape(runs, given, shapes)}
    return {"rows": len(digits.labels), "data_sha256": digits.sha256, "variants": variants}
