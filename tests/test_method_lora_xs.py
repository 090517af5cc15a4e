"""LoRA-XS: frozen principal triples of W, and a small trained matrix between them."""

import torch
from helpers import declared_entries, trained_by
from starting import decaying, parts_of, relative, spec_of, start_of

from pissa_repro import methods
from pissa_repro.runtime.record import read_json

RANK = 6


def start(weight, quant="none", alpha=RANK, rank=RANK, seed=0, **options):
    return start_of("layers.0.q_proj", weight, spec_of("lora_xs", quant, rank, alpha, seed=seed, **options))


def test_the_singular_values_are_on_the_side_of_the_input_and_the_base_is_all_of_w():
    weight = decaying(48, 96)
    made, _ = start(weight)
    u, s, vh = torch.linalg.svd(weight, full_matrices=False)
    assert torch.allclose(made.B.mT @ made.B, torch.eye(RANK), atol=1e-5)
    assert torch.allclose(made.A @ made.A.mT, s[:RANK].square().diag(), atol=1e-5)
    assert relative(made.B @ made.A, (u[:, :RANK] * s[:RANK]) @ vh[:RANK]) < 1e-5
    assert made.offset is None


def test_only_r_trains_and_the_seed_is_in_nothing_else():
    one, other = (start(decaying(48, 96), seed=seed)[0] for seed in (0, 1))
    assert set(parts_of(one, 1.0).trained()) == {"core"} and one.core.shape == (RANK, RANK)
    assert torch.equal(one.A, other.A) and torch.equal(one.B, other.B) and not torch.equal(one.core, other.core)
    assert methods.load("lora_xs").entries(48, 96, RANK, {}) == one.core.numel()


def test_r_is_gaussian_of_the_papers_width():
    core = start(decaying(48, 96), rank=48)[0].core
    assert abs(core.std() / 1e-5 - 1) < 0.05 and core.mean().abs() < 1e-6
    assert torch.allclose(start(decaying(48, 96), rank=48, sigma=0.5)[0].core, 5e4 * core)


def test_the_model_moves_by_r_alone_and_not_at_all_without_it():
    weight = decaying(48, 96)
    for alpha in (RANK, 4 * RANK):
        made, facts = start(weight, alpha=alpha)
        moved = (alpha / RANK * made.B @ made.core @ made.A).norm() / weight.norm()
        assert 1e-6 < facts["equality_error"] < 2e-4
        assert abs(facts["equality_error"] / moved - 1) < 0.05
    assert start(weight, sigma=0)[1]["equality_error"] == 0


def test_the_gradient_of_r_is_that_of_w_seen_from_the_triples():
    """dL/dR = s U^T (dL/dW) V S."""
    weight, gradient = decaying(48, 96), decaying(48, 96, seed=1)
    parts = parts_of(start(weight, alpha=2 * RANK)[0], 2.0)
    (gradient * (weight + 2 * parts.B @ parts.core @ parts.A)).sum().backward()
    u, s, vh = torch.linalg.svd(weight, full_matrices=False)
    expected = 2 * u[:, :RANK].mT @ gradient @ vh[:RANK].mT * s[:RANK]
    assert torch.allclose(parts.core.grad.abs(), expected.abs(), atol=1e-5)  # a pair of vectors has no sign
    assert parts.A.grad is None and parts.B.grad is None


def test_pefts_tinylora_has_the_same_product_with_the_values_on_both_sides():
    """PEFT has no LoRA-XS; its TinyLoRA, which is built on it, splits S in two roots where the paper does not."""
    from peft import TinyLoraConfig, get_peft_model

    weight = decaying(48, 96)
    model = torch.nn.Sequential(torch.nn.Linear(96, 48, bias=False))
    model[0].weight.data = weight.clone()
    layer = get_peft_model(model, TinyLoraConfig(r=RANK, target_modules=["0"])).base_model.model[0]
    a, b = layer.tinylora_A["default"], layer.tinylora_B["default"]
    made, _ = start(weight)
    assert relative(b @ a, made.B @ made.A) < 1e-5
    assert not torch.allclose(a.norm(dim=1), made.A.norm(dim=1), rtol=0.01)


def test_a_cell_trains_r_and_says_that_its_start_is_not_w(tmp_path, tiny_model, tiny_rows):
    run, initial, last = trained_by(tmp_path, tiny_model, tiny_rows, "lora_xs", steps=3, learning_rate=0.01)
    for name, r in initial.core.items():
        assert torch.equal(initial.A[name], last.A[name]) and torch.equal(initial.B[name], last.B[name])
        assert (last.core[name] != r).all() and last.core[name].norm() > 1e-3
    assert read_json(run.record)["trainable_parameters"] == declared_entries("lora_xs", initial, 4, {})
    assert "not at zero" in read_json(run.start / "init.json")["moves"]
