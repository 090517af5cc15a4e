"""LoftQ: the r largest singular triples of the quantization error, alternating as in its paper."""

import pytest
import torch
from starting import decaying, relative, sides, spec_of, start_of

from pissa_repro import methods, quantizers

RANK = 6


def start(quant, weight, alpha=RANK, **options):
    return start_of("layers.0.q_proj", weight, spec_of("loftq", quant, RANK, alpha, **options))[0]


@pytest.mark.parametrize("turns", [1, 2, 5])
@pytest.mark.parametrize("alpha", [RANK, 2 * RANK])
def test_loftq_alternates_as_in_its_paper_for_every_scaling(turns, alpha):
    weight = decaying(64, 96)
    made = start("nf4", weight, alpha=alpha, alternations=turns)
    product = torch.zeros_like(weight)
    for _ in range(turns):
        wanted_base = quantizers.roundtrip(weight - product, "nf4")
        u, s, vh = torch.linalg.svd(weight - wanted_base, full_matrices=False)
        product = (u[:, :RANK] * s[:RANK]) @ vh[:RANK]
    base, found = sides(made, weight, alpha / RANK, "nf4")
    assert (base - wanted_base).abs().gt(1e-5).float().mean() < 1e-3
    assert relative(found, product) < 2e-2 if turns > 1 else relative(found, product) < 1e-5
    assert (made.offset is None) == (turns == 1)


@pytest.mark.parametrize("quant", ["nf4", "nf4-b128-dq", "int8"])
@pytest.mark.parametrize("alpha", [RANK, 2 * RANK])
def test_what_is_missing_is_what_rank_r_cannot_hold_of_the_error(quant, alpha):
    weight = decaying(64, 96)
    base, product = sides(start(quant, weight, alpha=alpha), weight, alpha / RANK, quant)
    tail = torch.linalg.svdvals((weight - base).double())[RANK:]
    missing = torch.linalg.svdvals((weight - base - product).double())
    assert torch.allclose(missing[: len(tail)], tail, rtol=1e-3, atol=1e-6)


def test_without_quantization_it_is_refused():
    assert [quant for quant in quantizers.names() if methods.refusal("loftq", quant)] == ["none"]
