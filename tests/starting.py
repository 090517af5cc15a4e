"""Matrices, and starts of one weight without a model or files."""

from pathlib import Path

import torch

from pissa_repro import methods, quantizers
from pissa_repro.methods import Parts
from pissa_repro.model import factors
from pissa_repro.starts.make import spectrum, start_model, start_module

torch.set_num_threads(1)  # as in helpers.py


def decaying(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    """A matrix whose k-th singular value is k ** -0.7, as in trained weights."""
    generator = torch.Generator().manual_seed(seed)
    u, _, vh = torch.linalg.svd(torch.randn(rows, columns, generator=generator), full_matrices=False)
    return u * (torch.arange(1, len(vh) + 1) ** -0.7) @ vh


def with_values(rows: int, columns: int, law, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A float32 matrix with random singular vectors whose i-th singular value is law(i, n), and these values."""
    generator, n = torch.Generator().manual_seed(seed), min(rows, columns)
    values = law(torch.arange(1, n + 1, dtype=torch.float64), n)
    u, v = (
        torch.linalg.qr(torch.randn(side, n, generator=generator, dtype=torch.float64))[0] for side in (rows, columns)
    )
    return ((u * values) @ v.mT).float(), values


def product(triples) -> torch.Tensor:
    """U diag(S) Vh in float64."""
    return (triples.U.double() * triples.S.double()) @ triples.Vh.double()


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """|found - wanted| / |wanted| (Frobenius), in float64."""
    return ((found.double() - wanted.double()).norm() / wanted.double().norm()).item()


def made_up(shape: tuple[int, int], tokens: int = 1000, seed: int = 0) -> dict[str, torch.Tensor]:
    """Statistics of a module (out, in) of every kind, of random inputs (tokens, in) of decaying variance."""
    rows, columns = shape
    noise = torch.randn(tokens, columns, generator=torch.Generator().manual_seed(seed))
    inputs = noise @ decaying(columns, columns, seed + 1)
    covariance = (inputs.double().mT @ inputs.double() / tokens).float()
    return {
        "covariance": covariance, "magnitude": inputs.abs().mean(0), "gradient": decaying(rows, columns, seed + 2)
    }  # fmt: skip


def spec_of(method: str, quant: str, rank: int, alpha: float, rslora: bool = False, seed: int = 0, **options) -> dict:
    """What init.start_module reads of a spec, with the method's default options."""
    applicable = methods.options(method, quant, options, "test")
    keys = {"method": method, "quant": quant, "rank": rank, "alpha": alpha, "rslora": rslora, "seed": seed}
    return {**keys, "options": applicable}


def alternating(method: str, quant: str, count: int) -> dict[str, int]:
    """The option for so many alternations, where the method's start on this base alternates; else no option."""
    return {"alternations": count} if "alternations" in methods.options(method, quant, {}, "test") else {}


def start_of(name: str, weight: torch.Tensor, spec: dict, statistics: dict[str, torch.Tensor] | None = None):
    """The start of one weight (out, in) and its facts; where none are given, on statistics that are `made_up`."""
    if statistics is None and methods.load(spec["method"]).STATISTICS:
        statistics = made_up(tuple(weight.shape))
    return start_module(name, spectrum(name, weight), spec, statistics or {})


def parts_of(start, scaling: float) -> Parts:
    """The parts of a start as a training has them: what trains is a parameter, and nothing else has a gradient."""

    def of(name: str):
        part = getattr(start, name)
        part = part[start.free] if name == "core" and start.free is not None else part
        return None if part is None else torch.nn.Parameter(part.clone(), requires_grad=name in start.trained)

    return Parts(of("A"), of("B"), of("core"), scaling)


def made_of(folder: Path, spec: dict) -> factors.Factors:
    """The factors of a whole model folder, without files."""
    ((made, _),) = start_model(str(folder), [spec])
    return made


def sides(start, weight: torch.Tensor, scaling: float, quant: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The base and s * B @ C @ A of a start, put together by hand (not by factors.py)."""
    rest = weight if start.taken is None else weight - scaling * start.taken[1] @ start.taken[0]
    return quantizers.roundtrip(rest, quant), scaling * start.wide @ start.A


def takes(made, weight: torch.Tensor, first: int, rank: int) -> bool:
    """Whether B A is the `rank` singular triples from `first` on, and W - B A holds all others."""
    product = made.wide.double() @ made.A.double()
    values, count = torch.linalg.svdvals(weight.double()), min(weight.shape) - rank
    others = torch.cat((values[:first], values[first + rank :]))
    return torch.allclose(
        torch.linalg.svdvals(product)[:rank], values[first : first + rank], rtol=1e-4
    ) and torch.allclose(torch.linalg.svdvals(weight.double() - product)[:count], others, rtol=1e-4, atol=1e-6)


def shares_roots(made) -> bool:
    """Whether both factors carry the root of the singular values."""
    gram = made.A @ made.A.T
    return torch.allclose(gram, made.B.T @ made.B, atol=1e-5) and torch.allclose(
        gram, torch.diag(gram.diag()), atol=1e-5
    )
