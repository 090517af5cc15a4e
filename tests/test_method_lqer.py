"""LQER: the quantization error's largest triples, its inputs scaled by their mean magnitudes."""

import pytest
import torch
from starting import decaying, made_up, relative, sides, spec_of, start_of

from pissa_repro import methods, quantizers

RANK = 6
SHAPE = (64, 96)


def start(magnitude, method="lqer", alpha=RANK):
    statistics = {"magnitude": magnitude}
    return start_of("layers.0.q_proj", decaying(*SHAPE), spec_of(method, "nf4", RANK, alpha), statistics)[0]


def product(made):
    return made.B @ made.A


@pytest.mark.parametrize("alpha", [RANK, 2 * RANK])
def test_it_is_the_papers_product_whose_normalisation_cancels(alpha):
    """L2QER in its own notation, x W: W and its error are (in, out), and S scales their rows."""
    weight, magnitude = decaying(*SHAPE), made_up(SHAPE)["magnitude"]
    error = (weight - quantizers.roundtrip(weight, "nf4")).mT.double()
    scale = magnitude.double() / (magnitude.min() * magnitude.max()).double().sqrt()
    u, s, vh = torch.linalg.svd(scale[:, None] * error, full_matrices=False)
    wanted = (u[:, :RANK] / scale[:, None]) @ (s[:RANK, None] * vh[:RANK])
    _, found = sides(start(magnitude, alpha=alpha), weight, alpha / RANK, "nf4")
    assert relative(found, wanted.mT) < 1e-4


def test_inputs_of_equal_magnitude_make_it_loftq():
    even = torch.full((SHAPE[1],), 0.3)
    assert relative(product(start(even)), product(start(even, "loftq"))) < 1e-5


def test_an_input_that_is_never_there_is_no_obstacle():
    magnitude = made_up(SHAPE)["magnitude"]
    magnitude[7] = 0
    made = start(magnitude)
    assert made.A.isfinite().all() and made.B.isfinite().all()


def test_without_quantization_it_is_refused():
    assert [quant for quant in quantizers.names() if methods.refusal("lqer", quant)] == ["none"]
