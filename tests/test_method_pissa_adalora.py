"""PiSSA + AdaLoRA: PiSSA's triples, the singular values apart, kept orthogonal and not pruned."""

import pytest
import torch
from starting import decaying, parts_of, relative, spec_of, start_of

from pissa_repro import methods

METHOD = methods.load("pissa_adalora")
RANK = 6


@pytest.mark.parametrize(("quant", "options"), [("none", {}), ("nf4", {}), ("nf4", {"alternations": 3})])
@pytest.mark.parametrize("alpha", [RANK, 3 * RANK])
def test_it_takes_what_pissa_takes(quant, options, alpha):
    weight = decaying(64, 96)
    made, pissa = (
        start_of("layer", weight, spec_of(method, quant, RANK, alpha, **options))[0]
        for method in ("pissa_adalora", "pissa")
    )
    assert made.offset == pissa.offset == "start"
    assert relative(made.wide @ made.A, pissa.B @ pissa.A) < 1e-6
    assert made.A.numel() + made.B.numel() + made.core.numel() == METHOD.entries(64, 96, RANK, {})


def test_singular_vectors_are_orthonormal_and_the_values_apart():
    weight = decaying(48, 96)
    made, _ = start_of("layer", weight, spec_of("pissa_adalora", "none", RANK, 2 * RANK))
    one = torch.eye(RANK)
    assert torch.allclose(made.A @ made.A.mT, one, atol=1e-5) and torch.allclose(made.B.mT @ made.B, one, atol=1e-5)
    assert torch.allclose(2 * made.core, torch.linalg.svdvals(weight)[:RANK], rtol=1e-5)


def test_the_penalty_is_nothing_at_the_start_and_has_a_gradient_there_that_is_a_number():
    """Its norms are not squared: at exactly orthonormal vectors, the gradient is that of no direction."""
    made, _ = start_of("layer", decaying(48, 96), spec_of("pissa_adalora", "none", RANK, RANK))
    added = METHOD.TRAINING(METHOD.TRAINING_OPTIONS)
    exact = methods.Start(A=torch.eye(RANK, 96), B=torch.eye(48, RANK), core=made.core)
    for start, limit in ((made, 1e-5), (exact, 1e-12)):
        parts = parts_of(start, 1.0)
        penalty = added.penalty({"layer": parts})
        penalty.backward()
        assert penalty.item() <= limit and parts.A.grad.isfinite().all() and parts.B.grad.isfinite().all()
    parts = parts_of(methods.Start(A=2 * made.A, B=made.B, core=made.core), 1.0)
    wanted = 0.1 * (4 - 1) * RANK**0.5 / 2  # |4 - 1| of each of the r, and a mean over A and B
    assert added.penalty({"layer": parts}).item() == pytest.approx(wanted, rel=1e-4)


def test_no_triple_is_pruned():
    made, _ = start_of("layer", decaying(48, 96), spec_of("pissa_adalora", "none", RANK, RANK))
    parts, added = parts_of(made, 1.0), METHOD.TRAINING(METHOD.TRAINING_OPTIONS)
    for step in (1, 2, 3):
        added.adjust({"layer": parts}, step, 3)
        added.settle({"layer": parts}, step, 3)
    assert torch.equal(parts.core, made.core) and added.state() == {}
