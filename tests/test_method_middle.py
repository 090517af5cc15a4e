"""The middle slice: the r singular triples around the median one."""

from starting import decaying, shares_roots, spec_of, start_of, takes

RANK = 6


def start(quant, weight, alpha=RANK, **options):
    return start_of("layers.0.q_proj", weight, spec_of("middle", quant, RANK, alpha, **options))[0]


def test_it_takes_the_middle_triples_and_leaves_the_others():
    weight = decaying(48, 96)
    assert takes(start("none", weight), weight, (48 - RANK) // 2, RANK)


def test_both_factors_carry_the_root_of_the_singular_values():
    assert shares_roots(start("none", decaying(48, 96), alpha=2 * RANK))
