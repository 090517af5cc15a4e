"""The solvers of singular triples, against spectra that are known and against full SVDs in float64."""

import pytest
import torch
from helpers import counted
from starting import decaying, product, relative, with_values

from pissa_repro.linalg import gram, krylov, spectrum
from pissa_repro.runtime.errors import UserError
from pissa_repro.starts import make


def power_law_on_a_bulk(height):
    """Singular values of a trained weight: a power law that stands out from a nearly flat bulk."""
    return lambda i, n: (1 - 0.6 * i / n) + height * i**-0.6


def dominated(i, n):
    """As above; the first one is a thousand times as large, as where a few features have outliers."""
    return torch.where(i == 1, 1000.0, 1.0) * power_law_on_a_bulk(10)(i, n)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def excess(found, weight, values):
    """Its remainder (Frobenius) over that of the best triples, less 1."""
    best = values[len(found.S) :].square().sum().sqrt()
    return ((weight.double() - product(found)).norm() / best - 1).item()


def excess_of_svd_lowrank(weight, values, rank):
    torch.manual_seed(0)
    u, s, v = torch.svd_lowrank(weight, q=rank, niter=16)
    return excess(spectrum.Triples(u, s, v.mT), weight, values)


def off_orthonormal(found):
    eye = torch.eye(len(found.S))
    return max((found.U.mT @ found.U - eye).abs().max().item(), (found.Vh @ found.Vh.mT - eye).abs().max().item())


SHAPES = [(700, 600), (600, 700), (600, 600)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("height", "rank"), [(10, 40), (4, 64)])
def test_the_fast_solver_is_nearer_to_the_best_than_svd_lowrank(shape, height, rank, monkeypatch):
    weight, values = with_values(*shape, power_law_on_a_bulk(height))
    exact_calls = counted(monkeypatch, gram, "triples")
    found = spectrum.leading(weight, rank, seeded())
    assert not exact_calls
    assert excess(found, weight, values) < 0.5 * excess_of_svd_lowrank(weight, values, rank)
    assert found.U.shape == (shape[0], rank) and found.Vh.shape == (rank, shape[1])
    assert off_orthonormal(found) < 1e-5
    assert (found.S.diff() <= 0).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_the_estimate_of_the_excess_is_near_the_truth(shape):
    weight, values = with_values(*shape, power_law_on_a_bulk(2))
    found = spectrum.leading(weight, 64, seeded())
    truth = excess(found, weight, values)
    assert truth > 1e-5 and truth / 3 < found.excess < 10 * truth


@pytest.mark.parametrize("law", [power_law_on_a_bulk(10), power_law_on_a_bulk(0), lambda i, n: i**-0.7])
def test_the_estimate_of_the_excess_is_not_below_a_third_of_the_truth(law):
    weight, values = with_values(700, 600, law)
    found = spectrum.leading(weight, 40, seeded())
    assert found.excess <= spectrum.TOLERANCE
    assert excess(found, weight, values) < 3 * found.excess + 1e-7  # float32 rounding


def test_where_a_basis_would_be_half_of_the_matrix_the_exact_solver_is_taken(monkeypatch):
    weight = decaying(600, 560)
    basis_calls = counted(monkeypatch, krylov, "leading")
    assert spectrum.leading(weight, 80, seeded()).excess == 0 and not basis_calls
    assert spectrum.leading(weight, 64, seeded()).excess > 0 and len(basis_calls) == 1


def test_a_spectrum_that_the_fast_solver_misses_goes_to_the_exact_one(monkeypatch):
    weight, _ = with_values(700, 600, power_law_on_a_bulk(2))
    monkeypatch.setattr(spectrum, "TOLERANCE", 1e-9)
    found, wanted = spectrum.leading(weight, 40, seeded()), spectrum.exact(weight, 0, 40)
    assert torch.equal(found.U, wanted.U) and torch.equal(found.Vh, wanted.Vh) and found.excess == 0


DEGENERATE = {
    "all equal": lambda i, n: torch.ones_like(i),
    "nearly equal": lambda i, n: 1 - 1e-6 * i / n,
    "ten, then equal": lambda i, n: torch.where(i <= 10, 10.0, 1.0),
    "rank 50": lambda i, n: torch.where(i <= 50, 1.0, 0.0),
    "steep": lambda i, n: 10 ** (-i / 40),
}


@pytest.mark.parametrize("law", DEGENERATE)
@pytest.mark.parametrize("shape", [(700, 600), (600, 600)])
def test_equal_singular_values_and_low_rank_do_no_harm(law, shape):
    """New blocks then lie within the basis, up to rounding; they must not destroy its orthogonality."""
    weight, values = with_values(*shape, DEGENERATE[law])
    found = spectrum.leading(weight, 40, seeded())
    assert off_orthonormal(found) < 1e-5
    assert torch.allclose(found.S, values[:40].float(), rtol=2e-5, atol=1e-6)
    assert excess(found, weight, values) < 1e-4


@pytest.mark.parametrize("height", [5, 25, 31, 100, 1000])
@pytest.mark.parametrize("shape", [(700, 600), (600, 600), (600, 700)])
def test_a_large_first_value_leaves_both_sides_orthonormal(shape, height):
    """A Gram matrix in float32 blurs the small values beside a large one, and U = W V / S with them."""
    weight, values = with_values(*shape, lambda i, n: torch.where(i == 1, height, 1.0) * (1 - 0.6 * i / n))
    found = spectrum.leading(weight, 40, seeded())
    assert off_orthonormal(found) < 2e-5
    assert excess(found, weight, values) < 2e-3


@pytest.mark.parametrize("law", [power_law_on_a_bulk(10), dominated])
@pytest.mark.parametrize("shape", [(700, 600), (520, 800), (400, 300)])
def test_the_exact_solver_is_a_full_svd_to_1e_5(shape, law):
    weight, _ = with_values(*shape, law)
    u, s, vh = torch.linalg.svd(weight.double(), full_matrices=False)
    found = spectrum.exact(weight, 0, 40)
    assert relative(product(found), (u[:, :40] * s[:40]) @ vh[:40]) < 1e-5
    assert off_orthonormal(found) < 1e-5
    # up to SMALL it is LAPACK's SVD in float32, whose rounding is relative to the largest value
    scale = s[:40] if min(shape) > spectrum.SMALL else s[0]
    assert ((found.S.double() - s[:40]).abs() / scale).max() < 1e-5


def test_a_dominating_singular_value_needs_the_float64_gram_matrix(monkeypatch):
    weight, values = with_values(700, 600, dominated)
    good = spectrum.exact(weight, 0, 40)
    monkeypatch.setattr(gram, "SPAN", 1e30)  # float32 always
    poor = spectrum.exact(weight, 0, 40)
    assert excess(good, weight, values) < 1e-5 < excess(poor, weight, values)


@pytest.mark.parametrize("part", ["minor", "middle"])
@pytest.mark.parametrize("shape", [(700, 600), (560, 700), (200, 300)])
def test_minor_and_middle_slices_are_those_of_a_full_svd(part, shape):
    weight, rank, n = decaying(*shape), 16, min(shape)
    first = {"minor": n - rank, "middle": (n - rank) // 2}[part]
    u, s, vh = torch.linalg.svd(weight.double(), full_matrices=False)
    here = slice(first, first + rank)
    found = getattr(make.spectrum("m", weight), part)(rank)
    assert relative(product(found), (u[:, here] * s[here]) @ vh[here]) < 2e-5
    assert torch.allclose(found.S.double(), s[here], rtol=1e-5)


def spiked():
    weight, _ = with_values(600, 500, lambda i, n: torch.where(i == 1, 100.0, 1.0) * (1.8 - i / n))
    return weight


NUCLEAR = {  # the matrix, and whether its sum needs float64
    "noise": (lambda: torch.randn(600, 500, generator=seeded()), False),
    "wide noise": (lambda: torch.randn(300, 600, generator=seeded()), False),
    "decaying": (lambda: decaying(500, 600), False),
    "low rank": (lambda: torch.randn(600, 30, generator=seeded()) @ torch.randn(30, 500, generator=seeded(1)), True),
    "spiked": (spiked, True),
}


@pytest.mark.parametrize("kind", NUCLEAR)
def test_the_nuclear_norm_is_right_to_1e_6(kind, monkeypatch):
    make, wide = NUCLEAR[kind]
    weight = make()
    in_float64 = counted(monkeypatch, gram, "values")
    assert gram.nuclear(weight) == pytest.approx(torch.linalg.svdvals(weight.double()).sum().item(), rel=1e-6)
    assert bool(in_float64) == wide


def test_the_nuclear_norm_of_nothing_is_0():
    assert gram.nuclear(torch.zeros(60, 40)) == 0


def test_the_frobenius_norm_of_a_large_matrix_is_right_to_1e_7():
    """torch's own float32 norm is 8e-5 too small here."""
    weight = torch.randn(2048, 2048, generator=seeded())
    assert gram.frobenius(weight).item() == pytest.approx(weight.double().norm().item(), rel=1e-7)


@pytest.mark.parametrize("solve", ["fast", "exact", "middle", "niter_4"])
def test_the_same_bits_again_and_nearly_so_with_other_threads(solve):
    weight, _ = with_values(700, 600, power_law_on_a_bulk(10))

    def solved():
        found = {
            "fast": lambda: spectrum.leading(weight, 40, seeded()),
            "exact": lambda: spectrum.exact(weight, 0, 40),
            "middle": lambda: spectrum.exact(weight, 280, 320),
            "niter_4": lambda: spectrum.subspace(weight, 40, 4, seeded()),
        }[solve]()
        return found.U, product(found)

    first, again, threads = solved(), solved(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        _, other = solved()
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    # the middle of a bulk is defined to rounding over the gaps, here 1e-3 of the largest value
    assert relative(other, first[1]) < (1e-3 if solve == "middle" else 1e-5)


@pytest.mark.parametrize("scaling", [1, 2, 0.5])
def test_scaled_factors_multiply_to_the_triples(scaling):
    found = spectrum.exact(decaying(80, 60), 0, 8)
    a, b = spectrum.split(found, scaling)
    assert relative(scaling * b.double() @ a.double(), product(found)) < 1e-6
    assert a.is_contiguous() and b.is_contiguous()


@pytest.mark.parametrize("side", [60, 600, 1300])
def test_a_weight_with_fewer_singular_values_than_the_rank_is_refused_with_their_count(side):
    weight = torch.randn(side, 5, generator=seeded()) @ torch.randn(5, side, generator=seeded(1))
    found = make.spectrum("layers.3.up_proj", weight)
    assert found.principal(5).S[-1] > 0
    with pytest.raises(UserError, match=r"layers\.3\.up_proj\.weight has 5 non-zero singular values.* rank 6"):
        found.principal(6)


@pytest.mark.parametrize("shape", [(60, 60), (1300, 1300)])
def test_a_weight_of_zeros_is_refused_with_its_name(shape):
    with pytest.raises(UserError, match=r"layers\.3\.up_proj\.weight is zero: .*Leave the module out"):
        make.spectrum("layers.3.up_proj", torch.zeros(shape)).principal(1)


ASKED = {
    "fast": lambda found, rank: found.principal(rank),
    "exact": lambda found, rank: found.principal(rank, "exact"),
    "niter_4": lambda found, rank: found.principal(rank, "niter_4"),
    "minor": lambda found, rank: found.minor(rank),
    "middle": lambda found, rank: found.middle(rank),
}


@pytest.mark.parametrize("side", [12, 600])
@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
def test_no_triples_are_no_columns(ask, side):
    found = make.spectrum("layers.3.up_proj", torch.randn(side + 4, side, generator=seeded()))
    none = ask(found, 0)
    assert (none.U.shape, none.S.shape, none.Vh.shape) == ((side + 4, 0), (0,), (0, side))
    a, b = spectrum.split(none, 2.0)
    assert not (b @ a).any()


@pytest.mark.parametrize("side", [12, 600])
@pytest.mark.parametrize("part", ["minor", "middle"])
def test_a_slice_of_more_triples_than_there_are_is_refused(part, side):
    """The largest of more than there are are all."""
    found = make.spectrum("layers.3.up_proj", torch.randn(side + 4, side, generator=seeded()))
    for rank in (-1, side + 1):
        with pytest.raises(UserError, match=rf"weight \({side + 4}, {side}\): {rank} {part} triples.* has {side}"):
            ASKED[part](found, rank)
    assert len(found.principal(side + 1).S) == side
