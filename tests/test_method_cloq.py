"""CLoQ: QERA's product on the damped covariance, with the singular values in A."""

import pytest
import torch
from starting import decaying, made_up, relative, sides, spec_of, start_of

from pissa_repro import methods, quantizers
from pissa_repro.linalg import weighted

RANK = 6
SHAPE = (64, 96)


def start(statistics, method="cloq", alpha=RANK, **options):
    spec = spec_of(method, "nf4", RANK, alpha, **options)
    return start_of("layers.0.q_proj", decaying(*SHAPE), spec, statistics)[0]


@pytest.mark.parametrize("tokens", [1000, 30])
@pytest.mark.parametrize("alpha", [RANK, 2 * RANK])
def test_the_error_on_the_data_is_the_least_for_the_damped_gram_matrix(alpha, tokens):
    """The closed form, with the root R = sqrt(S_H) U_H^T of H = U_H S_H U_H^T."""
    data, weight = made_up(SHAPE, tokens), decaying(*SHAPE)
    h = data["covariance"].double()
    h = h + 0.01 * h.trace() / len(h) * torch.eye(len(h))
    value, vector = torch.linalg.eigh(h)
    base, product = sides(start(data, alpha=alpha), weight, alpha / RANK, "nf4")
    tail = torch.linalg.svdvals((weight - base).double() @ vector * value.sqrt())[RANK:]
    assert weighted.error(weight - base - product, h) == pytest.approx(tail.square().sum().item(), rel=1e-4)


def test_b_is_orthonormal_and_a_carries_the_singular_values():
    made = start(made_up(SHAPE))
    assert torch.allclose(made.B.mT @ made.B, torch.eye(RANK), atol=1e-5)


def test_without_damping_it_is_qeras_product_and_another_split():
    data = made_up(SHAPE)
    ours, other = start(data, damping=0), start(data, "qera")
    assert relative(ours.B @ ours.A, other.B @ other.A) < 1e-5
    assert relative(ours.A, other.A) > 0.1
    damped = start(data)
    assert relative(damped.B @ damped.A, other.B @ other.A) > 1e-4


def test_without_quantization_it_is_refused():
    assert [quant for quant in quantizers.names() if methods.refusal("cloq", quant)] == ["none"]
