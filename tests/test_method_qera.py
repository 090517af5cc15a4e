"""QERA: of all A and B of rank r, those that leave the least error of the outputs on a quantized base."""

import pytest
import torch
from starting import decaying, made_up, sides, spec_of, start_of

from pissa_repro import methods, quantizers
from pissa_repro.linalg import weighted
from pissa_repro.runtime.errors import UserError

RANK = 6
SHAPE = (64, 96)


def start(statistics=None, method="qera", quant="nf4", alpha=RANK, rank=RANK, **options):
    spec = spec_of(method, quant, rank, alpha, **options)
    return start_of("layers.0.q_proj", decaying(*SHAPE), spec, statistics)[0]


def missing(made, alpha=RANK, quant="nf4"):
    weight = decaying(*SHAPE)
    base, product = sides(made, weight, alpha / RANK, quant)
    return weight - base - product


def tail_of(root, quant="nf4"):
    """The least |(W - quantize(W) - L) R|^2 of an L of rank r."""
    rest = decaying(*SHAPE) - quantizers.roundtrip(decaying(*SHAPE), quant)
    return torch.linalg.svdvals(rest.double() @ root)[RANK:].square().sum().item()


def symmetric_root(matrix):
    value, vector = torch.linalg.eigh(matrix.double())
    return (vector * value.clamp(min=0).sqrt()) @ vector.mT


def nothing():
    return methods.Start(torch.zeros(1, SHAPE[1]), torch.zeros(SHAPE[0], 1))


@pytest.mark.parametrize("quant", ["nf4", "int8"])
@pytest.mark.parametrize("alpha", [RANK, 2 * RANK])
@pytest.mark.parametrize("tokens", [1000, 30])
def test_the_error_on_the_data_is_the_least_that_rank_r_can_leave(tokens, alpha, quant):
    """Theorem 1; with 30 tokens the root of E[x x^T] has no inverse."""
    data = made_up(SHAPE, tokens)
    left = weighted.error(missing(start(data, quant=quant, alpha=alpha), alpha, quant), data["covariance"])
    assert left == pytest.approx(tail_of(symmetric_root(data["covariance"]), quant), rel=1e-3)


def test_no_other_factors_leave_less_and_it_is_no_worse_than_loftq():
    data, drawn = made_up(SHAPE), torch.Generator().manual_seed(0)
    made = start(data)
    least = weighted.error(missing(made), data["covariance"])
    for size in (1e-2, 1e-3):
        a, b = (part + size * part.norm() * torch.randn(part.shape, generator=drawn) for part in (made.A, made.B))
        assert weighted.error(missing(methods.Start(a, b)), data["covariance"]) > least
    assert weighted.error(missing(start(data, method="loftq")), data["covariance"]) > least


def test_the_approximation_is_the_best_for_inputs_that_do_not_correlate():
    """Theorem 2: exact where the covariance is diagonal, and on others worse than the exact start."""
    data = made_up(SHAPE)
    diagonal = {"covariance": torch.diag(data["covariance"].diag())}
    rough, exact = start(data, exact=False), start(data)
    assert torch.allclose(missing(rough), missing(start(diagonal)), atol=1e-6)
    found = weighted.error(missing(rough), diagonal["covariance"])
    assert found == pytest.approx(tail_of(diagonal["covariance"].double().sqrt()), rel=1e-4)
    assert weighted.error(missing(rough), data["covariance"]) > weighted.error(missing(exact), data["covariance"])


def test_the_singular_values_are_in_b():
    made = start()
    gram = made.B.mT @ made.B
    assert torch.allclose(gram, torch.diag(gram.diag()), atol=1e-5 * gram.max().item())
    assert (gram.diag().diff() < 0).all()


def test_ranks_beyond_what_the_tokens_span_leave_no_error_on_them_and_can_still_train():
    data = made_up(SHAPE, tokens=30)
    made = start(data, alpha=40, rank=40)
    left, all_of_it = (weighted.error(part, data["covariance"]) for part in (missing(made), missing(nothing())))
    assert left < 1e-6 * all_of_it
    assert torch.linalg.matrix_rank(made.A) == 40 and made.B.isfinite().all()


def test_without_its_statistics_it_is_refused_by_name():
    with pytest.raises(UserError, match="qera: its start has to know the covariance of data"):
        start({"magnitude": torch.ones(96)})


def test_without_quantization_it_is_refused():
    assert [quant for quant in quantizers.names() if methods.refusal("qera", quant)] == ["none"]
