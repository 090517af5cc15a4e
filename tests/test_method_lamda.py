"""LaMDA: a frozen A, a trained core, and a B that freezes column by column."""

import pytest
import torch
from helpers import declared_entries, trained_by
from starting import decaying, parts_of, spec_of, start_of, takes, with_values

from pissa_repro import methods
from pissa_repro.runtime.record import read_json
from pissa_repro.starts.make import generator, spectrum

RANK, STEPS = 6, 40
LAMDA = methods.load("lamda")


def start(weight, quant="none", alpha=RANK, **options):
    return start_of("layers.0.q_proj", weight, spec_of("lamda", quant, RANK, alpha, **options))[0]


@pytest.mark.parametrize("alpha", [RANK, 2 * RANK])
def test_the_core_holds_the_largest_singular_values_and_the_base_the_rest(alpha):
    weight = decaying(48, 96)
    made, one = start(weight, alpha=alpha), torch.eye(RANK)
    assert torch.allclose(made.A @ made.A.mT, one, atol=1e-5) and torch.allclose(made.B.mT @ made.B, one, atol=1e-5)
    assert torch.allclose(alpha / RANK * made.core, torch.linalg.svdvals(weight)[:RANK].diag(), atol=1e-5)
    assert made.offset == "start" and set(parts_of(made, 1.0).trained()) == {"B", "core"}
    if alpha == RANK:
        assert takes(made, weight, 0, RANK)
    assert LAMDA.entries(48, 96, RANK, {}) == made.B.numel() + made.core.numel()


def trained(freezing, steps=STEPS):
    """The number of columns of B that moved in each step of a training with momentum and decay, and the parts."""
    parts = parts_of(start(decaying(48, 96)), 1.0)
    first, target = {name: getattr(parts, name).detach().clone() for name in ("A", "B", "core")}, decaying(48, 96, 1)
    hooks = LAMDA.TRAINING({"freezing": freezing})
    adam, moved = torch.optim.AdamW(parts.trained().values(), lr=1e-2, weight_decay=0.1), []
    for step in range(1, steps + 1):
        adam.zero_grad()
        (parts.B @ parts.core @ parts.A - target).square().sum().backward()
        before = parts.B.detach().clone()
        with torch.no_grad():
            hooks.adjust({"q_proj": parts}, step, steps)
            still = (parts.B.grad == 0).all(0)
            adam.step()
            hooks.settle({"q_proj": parts}, step, steps)
        moves = (before != parts.B).any(0)
        assert torch.equal(moves, ~still)
        assert torch.equal(moves.nonzero().flatten(), torch.arange(int(moves.sum()))), "the first columns go last"
        moved.append(int(moves.sum()))
    return moved, first, parts


def test_b_freezes_from_the_smallest_singular_value_on_over_the_first_steps():
    moved, first, parts = trained(0.3)
    assert moved[0] == RANK and moved == sorted(moved, reverse=True)
    assert moved[11] == 1 and not any(moved[12:]) and {moved.count(n) for n in range(1, RANK + 1)} == {2}
    assert torch.equal(parts.A, first["A"]) and not torch.isclose(parts.core, first["core"]).any()
    assert not torch.isclose(parts.B, first["B"]).all(0).any()


@pytest.mark.parametrize(("freezing", "last"), [(0.0, 0), (1.0, 1), (2.0, 3)])
def test_b_may_be_frozen_always_until_the_end_or_never_wholly(freezing, last):
    moved, _, _ = trained(freezing, steps=12)
    assert moved[-1] == pytest.approx(last, abs=1) and (moved[0] == RANK) == (freezing > 0)


def summary(weight, adaptive):
    options = {"svd": "fast", "adaptive_ranks": adaptive}
    setting = methods.Setting(RANK, 1.0, "none", generator(0, "k"), spectrum("k", weight), options)
    return LAMDA.summary(weight, setting)


def test_only_lamda_plus_plus_looks_at_the_spectra():
    weight = decaying(48, 96)
    assert summary(weight, False) is None
    assert torch.allclose(summary(weight, True).float(), torch.linalg.svdvals(weight), atol=1e-6)


def test_a_flat_spectrum_has_more_of_the_ranks_and_all_keep_one_share():
    laws = {"flat": -0.5, "middle": -0.55, "steep": -0.6}
    values = {name: with_values(48, 96, lambda i, n, p=power: i**p)[1] for name, power in laws.items()}
    found = LAMDA.ranks(RANK, values, {})
    assert 2 * RANK > found["flat"] > found["middle"] > found["steep"] > RANK // 2
    assert sum(found.values()) == 3 * RANK
    shares = {name: s.square().cumsum(0) / s.square().sum() for name, s in values.items()}
    kept = max(shares[name][rank - 2].item() for name, rank in found.items())
    assert kept <= min(shares[name][rank - 1].item() for name, rank in found.items())


def test_equal_spectra_have_equal_ranks_and_bounds_hold_for_others():
    assert LAMDA.ranks(3, {name: torch.tensor([3.0, 2.0, 1.0, 0.5]) for name in "abc"}, {}) == dict.fromkeys("abc", 3)
    spectra = {"short": torch.ones(1), "flat": torch.ones(64), "one": torch.eye(10)[0], "none": torch.zeros(9)}
    assert LAMDA.ranks(4, spectra, {}) == {"short": 1, "flat": 8, "one": 5, "none": 2}
    assert LAMDA.ranks(1, {"a": torch.tensor([1.0, 0.1]), "b": torch.ones(2)}, {}) == {"a": 1, "b": 1}


@pytest.mark.parametrize("freezing", [0.0, 0.4])
def test_a_cell_trains_the_core_and_what_is_not_frozen_of_b(tmp_path, tiny_model, tiny_rows, freezing):
    """In 5 steps of which 2 are before the freezing: all columns of B, then half of them."""
    limits = {"steps": 5, "learning_rate": 0.01, "weight_decay": 0.1, "options": {"freezing": freezing}}
    run, initial, last = trained_by(tmp_path, tiny_model, tiny_rows, "lamda", **limits)
    for name, b in initial.B.items():
        assert torch.equal(initial.A[name], last.A[name]) and (initial.core[name] != last.core[name]).all()
        moved = (last.B[name] - b).abs().amax(0)
        assert moved[:2].min() > 1.2 * moved[2:].max() if freezing else not moved.any()
    assert read_json(run.record)["trainable_parameters"] == declared_entries("lamda", initial, 4, {})
