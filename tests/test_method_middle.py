"""The middle slice: the r singular triples around the median one."""

import torch
from helpers import decaying, spec_of, start_of

RANK = 6


def start(quant, weight, alpha=RANK, **options):
    return start_of("layers.0.q_proj", weight, spec_of("middle", quant, RANK, alpha, **options))[0]


def test_it_takes_the_middle_triples_and_leaves_the_others():
    weight = decaying(48, 96)
    made, first = start("none", weight), (48 - RANK) // 2
    values = torch.linalg.svdvals(weight.double())
    taken = torch.linalg.svdvals(made.B.double() @ made.A.double())[:RANK]
    assert torch.allclose(taken, values[first : first + RANK], rtol=1e-4)
    rest = torch.linalg.svdvals(weight.double() - made.B.double() @ made.A.double())[: 48 - RANK]
    assert torch.allclose(rest, torch.cat((values[:first], values[first + RANK :])), rtol=1e-4, atol=1e-6)


def test_both_factors_carry_the_root_of_the_singular_values():
    made = start("none", decaying(48, 96), alpha=2 * RANK)
    gram = made.A @ made.A.T
    assert torch.allclose(gram, made.B.T @ made.B, atol=1e-5)
    assert torch.allclose(gram, torch.diag(gram.diag()), atol=1e-5)
