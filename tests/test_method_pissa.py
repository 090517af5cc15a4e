"""PiSSA: the r largest singular triples, and the alternations of the released code."""

import pytest
import torch
from starting import decaying, relative, shares_roots, sides, spec_of, start_of, takes

from pissa_repro import methods, quantizers

RANK = 6


def start(quant, weight, alpha=RANK, **options):
    return start_of("layers.0.q_proj", weight, spec_of("pissa", quant, RANK, alpha, **options))[0]


def test_it_takes_the_largest_triples_and_leaves_the_others():
    weight = decaying(48, 96)
    assert takes(start("none", weight), weight, 0, RANK)


def test_both_factors_carry_the_root_of_the_singular_values():
    assert shares_roots(start("none", decaying(48, 96), alpha=2 * RANK))


def pissa_as_released(weight, rank, turns):
    """R <- W; T times: A, B <- split of R; base <- nf4(W - BA); R <- W - base (utils/init_qpissa.py)."""
    rest = weight
    for _ in range(turns):
        u, s, vh = torch.linalg.svd(rest, full_matrices=False)
        product = (u[:, :rank] * s[:rank]) @ vh[:rank]
        base = quantizers.roundtrip(weight - product, "nf4")
        rest = weight - base
    return base, product


def pissa_as_printed(weight, rank, turns):
    """Algorithm 1: the base is made from the product of the repetition before."""
    u, s, vh = torch.linalg.svd(weight, full_matrices=False)
    product = (u[:, :rank] * s[:rank]) @ vh[:rank]
    base = quantizers.roundtrip(weight - product, "nf4")
    for _ in range(1, turns):
        u, s, vh = torch.linalg.svd(weight - base, full_matrices=False)
        base, product = quantizers.roundtrip(weight - product, "nf4"), (u[:, :rank] * s[:rank]) @ vh[:rank]
    return base, product


@pytest.mark.parametrize("turns", [1, 2, 5])
@pytest.mark.parametrize("alpha", [RANK, 2 * RANK])
def test_pissa_alternates_as_the_released_code_does(turns, alpha):
    weight = decaying(64, 96)
    made = start("nf4", weight, alpha=alpha, alternations=turns)
    base, product = sides(made, weight, alpha / RANK, "nf4")
    wanted_base, wanted_product = pissa_as_released(weight, RANK, turns)
    assert relative(product, wanted_product) < 1e-5
    # one code may flip where W - BA, rounded otherwise, lies between two levels
    assert (base - wanted_base).abs().gt(1e-5).float().mean() < 1e-3
    if turns > 2:  # the first two turns of both are the same or nearly so
        assert relative(product, pissa_as_printed(weight, RANK, turns)[1]) > 1e-3


def test_alternations_do_nothing_on_a_plain_base():
    """The config's pissa has T = 5; on a plain base it is the same start, and its spec has no T."""
    assert methods.options("pissa", "none", {"alternations": 5}, "here") == {"svd": "fast"}
    assert methods.options("pissa", "nf4", {"alternations": 5}, "here") == {"svd": "fast", "alternations": 5}
