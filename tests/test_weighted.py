"""The part of rank r that changes a layer's outputs least, and the error of those outputs."""

import pytest
import torch
from starting import decaying, made_up, relative

from pissa_repro.linalg import weighted
from pissa_repro.starts.make import spectrum

RANK = 6


def covariance(size, tokens=1000):
    return made_up((size, size), tokens)["covariance"]


def symmetric_root(matrix):
    value, vector = torch.linalg.eigh(matrix.double())
    return (vector * value.clamp(min=0).sqrt()) @ vector.mT


def fitted(matrix, weights, solver="exact"):
    triples = weighted.leading(spectrum("m", matrix), matrix, weights, RANK, solver)
    return triples, (triples.U.double() * triples.S.double()) @ triples.Vh.double()


@pytest.mark.parametrize("tokens", [1000, 20])
def test_a_root_times_its_transpose_is_the_covariance_also_of_fewer_tokens_than_inputs(tokens):
    """20 tokens span 20 of 64 inputs: there is no Cholesky factor, and the root has no inverse."""
    found = covariance(64, tokens)
    root = weighted.root(found)
    assert root.dtype == torch.float64 and relative(root @ root.mT, found) < 1e-6


@pytest.mark.parametrize("shape", [(64, 64), (48, 96), (96, 48)])
def test_it_is_the_closed_form_with_the_symmetric_root_and_its_inverse(shape):
    """QERA, theorem 1: R^-1 behind the largest triples of M R, whatever the root."""
    matrix, found = decaying(*shape), covariance(shape[1])
    root = symmetric_root(found)
    u, s, vh = torch.linalg.svd(matrix.double() @ root, full_matrices=False)
    triples, product = fitted(matrix, weighted.root(found))
    wanted = vh[:RANK] @ torch.linalg.inv(root)
    assert relative(product, (u[:, :RANK] * s[:RANK]) @ wanted) < 1e-5
    assert relative(triples.S, s[:RANK]) < 1e-5
    signs = (triples.Vh.double() * wanted).sum(1).sign()[:, None]
    assert relative(signs * triples.Vh, wanted) < 1e-4


def test_one_input_that_is_a_thousand_times_the_others_hides_none_of_them():
    """As in trained Llamas: float32 loses what the other inputs see, and only float64 finds six triples of M C."""
    matrix, found = decaying(48, 64), covariance(64)
    large = torch.ones(64)
    large[3] = 3e3
    found = large[:, None] * found * large
    for weights, power in ((weighted.root(found), found), (found.double(), found.double() @ found.double())):
        _, product = fitted(matrix, weights, "fast")
        tail = torch.linalg.svdvals(matrix.double() @ weights)[RANK:].square().sum().item()
        assert weighted.error(matrix - product, power) == pytest.approx(tail, rel=2e-2)


@pytest.mark.parametrize("tokens", [1000, 20])
def test_what_is_missed_on_the_data_is_what_no_rank_r_can_hold(tokens):
    """Eckart and Young for M R, also where C has not full rank; and the error is that over the tokens."""
    matrix, found = decaying(48, 64), covariance(64, tokens)
    _, product = fitted(matrix, weighted.root(found))
    tail = torch.linalg.svdvals(matrix.double() @ symmetric_root(found))[RANK:]
    assert weighted.error(matrix - product, found) == pytest.approx(tail.square().sum().item(), rel=1e-4)


def test_the_error_is_the_mean_square_of_the_outputs_that_differ():
    inputs = torch.randn(500, 64, generator=torch.Generator().manual_seed(3)) @ decaying(64, 64)
    rest = decaying(48, 64, seed=1)
    found = weighted.error(rest, inputs.mT @ inputs / len(inputs))
    assert found == pytest.approx((inputs @ rest.mT).square().sum(1).mean().item(), rel=1e-4)


def test_the_fast_solver_misses_little_of_a_wide_matrix():
    """600 x 700 is decomposed by block Krylov."""
    matrix, found = decaying(600, 700), covariance(700)
    root = weighted.root(found)
    errors = [weighted.error(matrix - fitted(matrix, root, solver=how)[1], found) for how in ("fast", "exact")]
    assert errors[1] <= errors[0] * (1 + 1e-6) and errors[0] < errors[1] * 1.001


def test_damping_adds_a_share_of_the_mean_eigenvalue():
    found = covariance(64)
    values, damped = (torch.linalg.eigvalsh(m.double()) for m in (found, weighted.damped(found, 0.01)))
    assert torch.allclose(damped - values, 0.01 * values.mean(), rtol=1e-6)
