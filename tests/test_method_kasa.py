"""KaSA: W without its smallest triples, an update in the form of an SVD, and two penalties."""

import pytest
import torch
from helpers import declared_entries, trained_by
from starting import decaying, parts_of, relative, sides, spec_of, start_of

from pissa_repro import methods, quantizers
from pissa_repro.runtime.record import read_json

RANK = 6
KASA = methods.load("kasa")


def start(weight, quant="none", alpha=RANK, seed=0):
    return start_of("layers.0.q_proj", weight, spec_of("kasa", quant, RANK, alpha, seed=seed))


@pytest.mark.parametrize("alpha", [RANK, 2 * RANK])
def test_the_base_is_w_without_its_smallest_triples_and_nothing_takes_their_place(alpha):
    weight = decaying(48, 96)
    made, facts = start(weight, alpha=alpha)
    base, update = sides(made, weight, alpha / RANK, "none")
    values = torch.linalg.svdvals(weight)
    assert not update.any()
    assert torch.allclose(torch.linalg.svdvals(base)[:-RANK], values[:-RANK], atol=1e-5)
    assert torch.linalg.svdvals(base)[-RANK:].max() < 1e-5
    assert facts["equality_error"] == pytest.approx((values[-RANK:].norm() / values.norm()).item(), rel=1e-3)


def test_on_a_quantized_base_what_is_left_is_quantized():
    weight = decaying(64, 96)
    made, _ = start(weight, "nf4")
    base, _ = sides(made, weight, 1.0, "nf4")
    assert torch.equal(base, quantizers.roundtrip(weight - made.offset[1] @ made.offset[0], "nf4"))


def test_all_three_parts_train_and_are_loras_with_a_gaussian_between():
    made, _ = start(decaying(48, 96))
    lora, _ = start_of("layers.0.q_proj", decaying(48, 96), spec_of("lora", "none", RANK, RANK))
    parts = parts_of(made, 1.0).trained()
    assert set(parts) == {"A", "B", "core"} and made.core.shape == (RANK,) and made.core.all()
    assert torch.equal(made.A, lora.A) and torch.equal(made.B, lora.B)
    assert KASA.entries(48, 96, RANK, {}) == sum(part.numel() for part in parts.values())


def peft(weight, alpha, beta, gamma):
    from peft import KasaConfig, LoraConfig, get_peft_model

    model = torch.nn.Sequential(torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False))
    model[0].weight.data = weight.clone()
    kasa = KasaConfig(beta=beta, gamma=gamma)
    wrapped = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=alpha, target_modules=["0"], kasa_config=kasa))
    return wrapped, wrapped.base_model.model[0]


def test_the_base_and_the_model_are_pefts():
    weight, alpha = decaying(48, 96), 2 * RANK
    wrapped, layer = peft(weight, alpha, 1e-4, 1e-3)
    made, _ = start(weight, alpha=alpha)
    base, _ = sides(made, weight, 2.0, "none")
    assert relative(base, layer.base_layer.weight.data) < 1e-5
    assert not layer.lora_B["default"].weight.any() and layer.lora_diag["default"].shape == made.core.shape
    b, x = decaying(48, RANK, seed=1), decaying(8, 96, seed=2)
    given = zip((layer.lora_A["default"].weight, layer.lora_B["default"].weight, layer.lora_diag["default"]),
                (made.A, b, made.core), strict=True)  # fmt: skip
    for theirs, ours in given:
        theirs.data = ours.clone()
    assert relative(x @ (base + 2 * b * made.core @ made.A).mT, wrapped(x).detach()) < 1e-5


@pytest.mark.parametrize(("beta", "gamma"), [(1e-4, 1e-3), (0.5, 0.0), (0.0, 2.0)])
def test_the_penalty_and_its_gradients_are_pefts(beta, gamma):
    wrapped, layer = peft(decaying(48, 96), RANK, beta, gamma)
    theirs = [layer.lora_A["default"].weight, layer.lora_B["default"].weight, layer.lora_diag["default"]]
    theirs[1].data = decaying(48, RANK, seed=1)
    ours = [torch.nn.Parameter(part.detach().clone()) for part in theirs]
    found = KASA.TRAINING({"beta": beta, "gamma": gamma}).penalty({"q_proj": methods.Parts(*ours, scaling=1.0)})
    wanted = wrapped.base_model._get_kasa_loss()
    assert torch.allclose(found, wanted)
    for one, other in zip(torch.autograd.grad(found, ours), torch.autograd.grad(wanted, theirs), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_the_penalty_is_summed_over_modules_and_leaves_b_alone_at_the_start():
    parts = parts_of(start(decaying(48, 96))[0], 1.0)
    hooks = KASA.TRAINING({"beta": 0.5, "gamma": 0.1})
    alone, twice = hooks.penalty({"q": parts}), hooks.penalty({"q": parts, "k": parts})
    assert torch.allclose(2 * alone, twice)
    assert not torch.autograd.grad(alone, parts.B, retain_graph=True)[0].any()
    assert torch.allclose(torch.autograd.grad(alone, parts.core)[0], parts.core)  # beta 2 sigma


def test_a_cell_feels_the_penalties_and_logs_the_loss_of_the_task(tmp_path, tiny_model, tiny_rows):
    cells = {}
    for beta in (0.0, 10.0):
        limits = {"steps": 4, "learning_rate": 0.01, "options": {"beta": beta, "gamma": 0.0}}
        cells[beta] = trained_by(tmp_path / str(beta), tiny_model, tiny_rows, "kasa", **limits)
    (run, initial, free), (other, _, held) = cells.values()
    assert run.history()[0].loss == other.history()[0].loss < 10
    for name, sigma in initial.core.items():
        assert held.core[name].norm() < sigma.norm() - 0.02 and held.core[name].norm() < free.core[name].norm()
    assert read_json(run.record)["trainable_parameters"] == declared_entries("kasa", initial, 4, {})
    assert "taken out" in read_json(run.start / "init.json")["moves"]
