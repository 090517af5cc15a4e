"""SVFT: a sparse matrix between all singular vectors of W."""

import pytest
import torch
from helpers import declared_entries, trained_by
from starting import decaying, relative, spec_of, start_of

from pissa_repro import methods
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import read_json

RANK, SIDE, NEAR = 6, 48, 5
PATTERNS = methods.load("svft").CHOICES["pattern"]
SHAPES = {"plain": (48, 96), "banded": (96, 48), "random": (48, 96), "top_k": (48, 48)}


def start(weight, quant="none", alpha=RANK, seed=0, module="layers.0.q_proj", **options):
    return start_of(module, weight, spec_of("svft", quant, RANK, alpha, seed=seed, **options))[0]


def full(core):
    return core.diag() if core.ndim == 1 else core


@pytest.mark.parametrize("alpha", [RANK, 4 * RANK])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_vectors_are_all_of_an_svd_of_w_whatever_the_scaling(pattern, alpha):
    weight = decaying(*SHAPES[pattern])
    made, s = start(weight, alpha=alpha, pattern=pattern), alpha / RANK
    b, one = s * made.B, torch.eye(SIDE)
    assert torch.allclose(b.mT @ b, one, atol=1e-5) and torch.allclose(made.A @ made.A.mT, one, atol=1e-5)
    sigma = b.mT @ weight @ made.A.mT
    assert torch.allclose(sigma, torch.linalg.svdvals(weight).diag(), atol=1e-5)
    assert made.trained == ("core",) and made.offset is None and not made.core.any()


@pytest.mark.parametrize("side", [48, 520])  # a full SVD, and the Gram matrix of the smaller side
def test_a_weight_may_lack_rank(side):
    weight = decaying(side, 40) @ decaying(40, side, seed=1)
    made, one = start(weight), torch.eye(side)
    assert torch.allclose(made.B.mT @ made.B, one, atol=1e-5) and torch.allclose(made.A @ made.A.mT, one, atol=1e-5)
    sigma = made.B.mT @ weight @ made.A.mT
    assert (sigma - sigma.diag().diag()).abs().max() < 1e-5 and sigma.diag()[40:].abs().max() < 1e-5


def test_plain_moves_the_singular_values_and_keeps_the_vectors():
    """The paper's lemma (a): W + U M V^T has the values |S + M|."""
    weight = decaying(48, 96)
    made, change = start(weight, alpha=2 * RANK), torch.linspace(0.1, -0.2, SIDE)
    values = torch.linalg.svdvals(weight)
    moved = torch.linalg.svdvals(weight + 2 * (made.B * change) @ made.A)
    assert made.core.shape == (SIDE,) and made.free is None
    assert torch.allclose(moved, (values + change).abs().sort(descending=True).values, atol=1e-5)


def test_a_band_is_a_band():
    free = start(decaying(96, 48), pattern="banded", off_diagonals=NEAR).free
    row, column = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    assert torch.equal(free, (row - column).abs() <= NEAR)
    assert free.sum() == SIDE * NEAR + (SIDE - NEAR) * (NEAR + 1)  # the paper's Table 7


def test_with_all_entries_every_weight_of_its_span_is_reached():
    """The paper's lemma (b): M = U^T (P - W) V."""
    weight, target = decaying(48, 48), decaying(48, 48, seed=1)
    made = start(weight, pattern="banded", off_diagonals=1_000)
    assert made.free.all()
    core = made.B.mT @ (target - weight) @ made.A.mT
    assert relative(weight + made.B @ core @ made.A, target) < 1e-5


def test_a_random_pattern_is_the_modules_own_and_the_same_for_all_seeds():
    weight = decaying(48, 96)
    one, again, other = (
        start(weight, pattern="random", off_diagonals=NEAR, **change).free
        for change in ({}, {"seed": 1}, {"module": "k"})
    )
    assert torch.equal(one, again) and not torch.equal(one, other)
    near = start(weight, pattern="banded", off_diagonals=NEAR).free
    assert one.sum() == near.sum() and (one & ~near).sum() > near.sum() / 2


def test_top_k_are_the_pairs_of_vectors_that_agree_most():
    weight = decaying(48, 48)
    made = start(weight, pattern="top_k", off_diagonals=NEAR)
    u, _, vh = torch.linalg.svd(weight)
    agree = (u.mT @ vh.mT).abs()
    assert agree[made.free].min() >= agree[~made.free].max() - 1e-5


def test_top_k_of_a_weight_that_is_not_square_is_refused_by_name():
    with pytest.raises(UserError, match=r"layers.0.q_proj.weight \(48, 96\).*'top_k'.*square.*'banded'"):
        start(decaying(48, 96), pattern="top_k")


@pytest.mark.parametrize("many", [1, NEAR, SIDE - 1, SIDE, 1_000])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_formula_for_what_trains_is_the_count(pattern, many):
    options = {"pattern": pattern, "off_diagonals": many}
    made = start(decaying(*SHAPES[pattern]), **options)
    count = made.core.numel() if made.free is None else made.free.sum().item()
    assert methods.load("svft").entries(*SHAPES[pattern], RANK, options) == count


@pytest.mark.parametrize("pattern", ["plain", "random"])
def test_a_cell_trains_the_pattern_alone(tmp_path, tiny_model, tiny_rows, pattern):
    options = {"pattern": pattern, "off_diagonals": NEAR}
    limits = {"steps": 3, "learning_rate": 0.01, "options": options, "weight_decay": 0.1}
    run, initial, last = trained_by(tmp_path, tiny_model, tiny_rows, "svft", **limits)
    for name, core in last.core.items():
        free = initial.free.get(name, torch.ones_like(core, dtype=torch.bool))
        assert core[free].all() and not core[~free].any()
    assert read_json(run.record)["trainable_parameters"] == declared_entries("svft", initial, 4, options)
