"""What benchmarks/init.py compares: the weight, the contenders, and how good each one's result is.

The weight's singular values are known, (1 - 0.6 i/n) + 10 i^-0.6 for i = 1..n: a flat bulk and a power
law, as in trained weights. At 4096 x 4096 the 128 largest carry 21.7 % of the energy; the paper's
Figure 9 gives 20.6 % for LLaMA-2-7B (standard deviation .0193 before and .0172 after rank 128 is taken
out). The singular vectors are random (Haar).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch

from pissa_repro import quantizers
from pissa_repro.linalg import gram, spectrum
from pissa_repro.methods import Setting, loftq, pissa
from pissa_repro.model import factors
from pissa_repro.starts import error as start_error

ALTERNATIONS = 5  # T in the paper's sections 5.3 and 5.4
DEVIATION = 0.02  # of the weight's entries
QUANT = "nf4"


@dataclass(frozen=True)
class Case:
    """One weight, float32 (m, n), with its singular values in float64 (falling, on the CPU), and a rank."""

    weight: torch.Tensor
    values: torch.Tensor
    rank: int

    @property
    def optimum(self) -> float:
        """The Frobenius norm that the best rank-r approximation leaves."""
        return self.values[self.rank :].norm().item()

    @cached_property
    def error(self) -> torch.Tensor:
        """W - nf4(W), float32: whose nuclear norm is asked for."""
        return self.weight - quantizers.roundtrip(self.weight, QUANT)

    @cached_property
    def plain(self) -> start_error.Error:
        """What the alternations reduce: the error of W - nf4(W)."""
        return start_error.error(self.error)

    @cached_property
    def nuclear(self) -> float:
        """The nuclear norm of W - nf4(W) as torch's float64 svdvals give it."""
        return torch.linalg.svdvals(self.error.double()).sum().item()

    def generator(self) -> torch.Generator:
        """The same random numbers for every call."""
        return torch.Generator().manual_seed(0)


@dataclass(frozen=True)
class Contender:
    """call() is timed; judge(result) says how good it is: fields of the line. tried: it may refuse this device."""

    name: str
    call: Callable[[], Any]
    judge: Callable[[Any], dict[str, Any]]
    tried: bool = False


def spectrum_like(m: int, n: int) -> torch.Tensor:
    """The singular values of the module's docstring for (m, n), float64, falling."""
    small = min(m, n)
    index = torch.arange(1, small + 1, dtype=torch.float64)
    values = (1 - 0.6 * index / small) + 10 * index**-0.6
    return values * (DEVIATION * (m * n) ** 0.5 / values.norm())


def trained_like(m: int, n: int, rank: int, device: str) -> Case:
    """A weight with that spectrum, made in float64 and rounded once."""
    values, generator = spectrum_like(m, n), torch.Generator().manual_seed(0)
    u, v = (_haar(side, min(m, n), generator, device) for side in (m, n))
    return Case(((u * values.to(u)) @ v.mT).float(), values, rank)


def _haar(rows: int, columns: int, generator: torch.Generator, device: str) -> torch.Tensor:
    q, r = torch.linalg.qr(torch.randn(rows, columns, dtype=torch.float64, generator=generator).to(device))
    return q * r.diagonal().sign()


def contenders(case: Case) -> list[Contender]:
    """All of them, in the order in which they take turns."""
    return [*_approximations(case), *_alternations(case), *_nuclear_norms(case), *_quantizers(case)]


# The rank-r approximations: A and B, or the triples that they are made of.


def _approximations(case: Case) -> list[Contender]:
    w, rank = case.weight, case.rank
    calls = {
        "pissa-fast": lambda: spectrum.leading(w, rank, case.generator()),
        "pissa-exact": lambda: spectrum.exact(w, 0, rank),
        "linalg.svd": lambda: _top(*torch.linalg.svd(w, full_matrices=False), rank),
        **{f"svd_lowrank-{niter}": partial(_lowrank, case, niter) for niter in (1, 4, 16)},
        "peft-pissa": partial(_peft, case, "pissa"),
        "peft-pissa_niter_16": partial(_peft, case, "pissa_niter_16"),
    }
    return [Contender(name, call, partial(_approximation, case)) for name, call in calls.items()]


def _top(u: torch.Tensor, s: torch.Tensor, vh: torch.Tensor, rank: int) -> spectrum.Triples:
    return spectrum.Triples(u[:, :rank], s[:rank], vh[:rank])


def _lowrank(case: Case, niter: int) -> spectrum.Triples:
    torch.manual_seed(0)  # it draws from the global generator
    u, s, v = torch.svd_lowrank(case.weight, q=case.rank, niter=niter)
    return spectrum.Triples(u, s, v.mT)


def _peft(case: Case, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """B and A of a linear layer that PEFT initialises; with what PEFT does beside, such as W - BA."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    linear = torch.nn.Linear(*case.weight.shape[::-1], bias=False, device="meta")
    linear.weight = torch.nn.Parameter(case.weight, requires_grad=False)
    config = LoraConfig(r=case.rank, lora_alpha=case.rank, target_modules=["0"], init_lora_weights=kind)
    layer = get_peft_model(torch.nn.Sequential(linear), config).base_model.model[0]
    return layer.lora_B["default"].weight, layer.lora_A["default"].weight


def _approximation(case: Case, found: Any) -> dict[str, Any]:
    """The excess over the optimum, and how far the singular values are from the known ones (relative)."""
    triples = isinstance(found, spectrum.Triples)
    left, right = (found.U.double() * found.S, found.Vh) if triples else found
    total = 0.0
    for rows in torch.arange(len(case.weight)).split(512):
        here = slice(rows[0], rows[-1] + 1)
        total += (case.weight[here].double() - left[here].double() @ right.double()).square().sum().item()
    known = case.values[: case.rank]
    off = ((found.S.cpu().double() - known) / known).abs().max().item() if triples else None
    return {"frobenius_excess": total**0.5 / case.optimum - 1, "values_error": off}


# The alternating ones: (base, B, A) after T decompositions.


def _alternations(case: Case) -> list[Contender]:
    judge = partial(_reduction, case)
    return [
        Contender("qpissa-5-fast", partial(_ours, case, pissa), judge),
        Contender("qpissa-5-full-svd", partial(_full_svd_loop, case), judge),
        Contender("loftq-5-fast", partial(_ours, case, loftq), judge),
        Contender("peft-loftq-5", partial(_peft_loftq, case), judge, tried=True),
    ]


def _ours(case: Case, method: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The factors, and the base that training will make of them, since the others make theirs too."""
    whole = spectrum.Spectrum(case.weight, case.generator)
    options = {"svd": "fast", "alternations": ALTERNATIONS}
    start = method.start(case.weight, Setting(case.rank, 1.0, QUANT, case.generator(), whole, options))
    return quantizers.base_weight(case.weight, factors.product(*start.taken, 1.0), QUANT), start.B, start.A


def _full_svd_loop(case: Case) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The released QPiSSA, re-written from its description (docs/paper_facts.md 3.3), with our faster quantizer.

    R <- W; T times: A, B <- rank-r split of R by a full SVD; base <- nf4(W - AB); R <- W - base.
    """
    rest = case.weight
    for _ in range(ALTERNATIONS):
        top = _top(*torch.linalg.svd(rest, full_matrices=False), case.rank)
        root = top.S.sqrt()
        b, a = top.U * root, root[:, None] * top.Vh
        base = quantizers.roundtrip(case.weight - b @ a, QUANT)
        rest = case.weight - base
    return base, b, a


def _peft_loftq(case: Case) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    from peft.utils.loftq_utils import loftq_init

    base, a, b = loftq_init(case.weight, num_bits=4, reduced_rank=case.rank, num_iter=ALTERNATIONS)
    return base, b, a


def _reduction(case: Case, found: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> dict[str, Any]:
    base, b, a = found
    left = start_error.error(case.weight - base - factors.product(a, b, 1.0))
    return {"error_reduction": start_error.compared(left, case.plain)["reduction"]}


# The nuclear norm of the quantization error, and the quantizers themselves.


def _nuclear_norms(case: Case) -> list[Contender]:
    def judge(found: float) -> dict[str, Any]:
        return {"nuclear_difference": abs(found / case.nuclear - 1)}

    return [
        Contender("nuclear-ours", lambda: gram.nuclear(case.error), judge),
        Contender("nuclear-svdvals", lambda: torch.linalg.svdvals(case.error).double().sum().item(), judge),
    ]


def _quantizers(case: Case) -> list[Contender]:
    def judge(found: torch.Tensor) -> dict[str, Any]:
        same = torch.equal(found, _bitsandbytes(case))
        if not (same or found.is_cuda):
            raise RuntimeError("nf4 on the CPU differs from bitsandbytes: the comparison of their times is void.")
        return {"identical": same}

    return [
        Contender("nf4-ours", lambda: quantizers.roundtrip(case.weight, QUANT), judge),
        Contender("nf4-bitsandbytes", partial(_bitsandbytes, case), judge),
    ]


def _bitsandbytes(case: Case) -> torch.Tensor:
    """Blocks as rows, as in linalg/quantize.py: bitsandbytes 0.50.2 may scale longer ones wrongly on the CPU."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    blocks = case.weight.view(-1, quantizers.find(QUANT).options["blocksize"])
    return dequantize_4bit(*quantize_4bit(blocks, quant_type=QUANT, blocksize=blocks.shape[1])).view_as(case.weight)
