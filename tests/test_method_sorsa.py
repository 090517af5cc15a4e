"""SORSA: U, S and V of the principal triples as parts of their own, held orthonormal."""

import pytest
import torch
from helpers import declared_entries, trained_by
from starting import decaying, parts_of, relative, sides, spec_of, start_of, takes

from pissa_repro import methods
from pissa_repro.linalg.orthonormal import departure
from pissa_repro.runtime.record import read_json

RANK, RATE = 6, 3e-5
SORSA = methods.load("sorsa")


def start(weight, quant="none", alpha=RANK):
    return start_of("layers.0.q_proj", weight, spec_of("sorsa", quant, RANK, alpha))[0]


def hooks(gamma=4e-4, rate=RATE):
    made = SORSA.TRAINING({"gamma": gamma})
    assert made.optimizer({}, [], {"lr": rate}) is None
    return made


@pytest.mark.parametrize("alpha", [RANK, 2 * RANK])
def test_the_parts_are_u_s_and_v_and_the_base_is_pissas(alpha):
    weight = decaying(48, 96)
    made, one = start(weight, alpha=alpha), torch.eye(RANK)
    assert torch.allclose(made.A @ made.A.mT, one, atol=1e-5) and torch.allclose(made.B.mT @ made.B, one, atol=1e-5)
    assert torch.allclose(alpha / RANK * made.core, torch.linalg.svdvals(weight)[:RANK], atol=1e-5)
    pissa, _ = start_of("layers.0.q_proj", weight, spec_of("pissa", "none", RANK, alpha))
    for mine, its in zip(*(sides(one, weight, alpha / RANK, "none") for one in (made, pissa)), strict=True):
        assert relative(mine, its) < 1e-5
    if alpha == RANK:
        assert takes(made, weight, 0, RANK)
    trained = parts_of(made, 1.0).trained()
    assert set(trained) == {"A", "B", "core"}
    assert SORSA.entries(48, 96, RANK, {}) == sum(part.numel() for part in trained.values())


def test_the_penalty_is_gamma_over_the_rate_times_the_mean_distance_from_orthonormal():
    """As calc_ortho of the released code: the mean over the matrices of |A A^T - 1| and |B^T B - 1|."""
    modules = {name: parts_of(start(decaying(48, 96, seed)), 1.0) for seed, name in enumerate(("q", "k"))}
    assert 0 <= hooks(gamma=RATE).penalty(modules) < 1e-4  # at the start
    with torch.no_grad():
        modules["q"].A.mul_(2), modules["k"].B.mul_(0)
    wanted = (3 * RANK**0.5 + RANK**0.5) / 4  # |4 - 1| and |0 - 1| on a diagonal of RANK entries, and twice nothing
    assert hooks().penalty(modules).item() == pytest.approx(4e-4 / RATE * wanted, rel=1e-4)
    assert hooks(rate=2 * RATE).penalty(modules).item() == pytest.approx(2e-4 / RATE * wanted, rel=1e-4)
    assert hooks(gamma=0.0).penalty(modules) == 0


def test_its_gradient_is_the_formulas_and_none_for_the_singular_values():
    """d |A A^T - 1| / dA = 2 (A A^T - 1) A / |A A^T - 1|, and the like for B."""
    parts = parts_of(start(decaying(48, 96)), 1.0)
    with torch.no_grad():
        parts.A.add_(0.1 * decaying(RANK, 96, seed=1)), parts.B.add_(0.1 * decaying(48, RANK, seed=2))
    penalty = hooks(gamma=2 * RATE).penalty({"q": parts})
    a, b, core = torch.autograd.grad(penalty, [parts.A, parts.B, parts.core], allow_unused=True)
    for found, rows in ((a, parts.A.detach()), (b.mT, parts.B.detach().mT)):
        off = rows @ rows.mT - torch.eye(RANK)
        assert torch.allclose(found, 2 * off @ rows / off.norm(), atol=1e-6)
    assert core is None


def test_following_it_brings_the_vectors_back():
    parts = parts_of(start(decaying(48, 96)), 1.0)
    with torch.no_grad():
        parts.B.add_(0.1 * torch.randn(48, RANK, generator=torch.Generator().manual_seed(0)))
    training, optimizer = hooks(gamma=RATE), torch.optim.SGD([parts.B], lr=0.02)
    values = []
    for _ in range(40):
        optimizer.zero_grad()
        penalty = training.penalty({"q": parts})
        penalty.backward()
        optimizer.step()
        values.append(penalty.item())
    assert min(values) < 0.1 * values[0]


def test_parts_in_bfloat16_are_measured_in_float32():
    made = start(decaying(48, 96))
    parts = methods.Parts(*(torch.nn.Parameter(part.bfloat16()) for part in (made.A, made.B, made.core)), scaling=1.0)
    penalty = hooks().penalty({"q": parts})
    assert penalty.dtype == torch.float32 and penalty.isfinite() and penalty > 0


def test_a_cell_keeps_its_vectors_orthonormal(tmp_path, tiny_model, tiny_rows):
    off, losses = [], []
    for gamma in (0.0, 0.01):
        limits = {"steps": 12, "learning_rate": 0.01, "options": {"gamma": gamma}}
        run, initial, last = trained_by(tmp_path / str(gamma), tiny_model, tiny_rows, "sorsa", **limits)
        off.append(sum(departure(last.A[name]) + departure(b.mT) for name, b in last.B.items()))
        losses.append(run.history()[0].loss)
        assert all((last.core[name] != s).all() for name, s in initial.core.items())
        assert read_json(run.record)["trainable_parameters"] == declared_entries("sorsa", initial, 4, {})
    assert off[1] < 0.5 * off[0] and losses[0] == losses[1]
