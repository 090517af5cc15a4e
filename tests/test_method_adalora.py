"""AdaLoRA: triplets that start at zero, importances, the budget and its masks, and the penalty; beside PEFT's."""

from types import SimpleNamespace

import pytest
import torch
from starting import decaying, parts_of, spec_of, start_of

from pissa_repro import methods
from pissa_repro.runtime.errors import UserError

METHOD = methods.load("adalora")
RANK, STEPS = 4, 40
SHAPES = {"first": (24, 16), "second": (12, 24), "third": (16, 16)}
SHARES = {"warmup_share": 0.1, "final_share": 0.25}  # 4 and 10 of the steps


def training(**options):
    return METHOD.TRAINING(dict(METHOD.TRAINING_OPTIONS) | SHARES | options)


def modules(scaling=2.0):
    starts = {
        name: start_of(name, decaying(*shape), spec_of("adalora", "none", RANK, RANK))[0]
        for name, shape in SHAPES.items()
    }
    return {name: parts_of(start, scaling) for name, start in starts.items()}


def parameters(of):
    return [part for parts in of.values() for part in parts.trained().values()]


def fill(of, generator):
    """Random gradients, and random numbers added to the parts."""
    for part in parameters(of):
        part.data += 0.1 * torch.randn(part.shape, generator=generator)
        part.grad = torch.randn(part.shape, generator=generator)


def alive(of):
    return torch.cat([parts.core != 0 for parts in of.values()])


@pytest.mark.parametrize(("rank", "triplets"), [(1, 2), (4, 6), (5, 8), (16, 16)])
def test_it_starts_at_w_with_half_as_many_triplets_again(rank, triplets):
    weight = decaying(16, 400)
    made, facts = start_of("layer", weight, spec_of("adalora", "none", rank, rank))
    assert made.A.shape == (triplets, 400) and made.B.shape == (16, triplets)
    assert made.core.count_nonzero() == 0 and made.offset is None and facts["equality_error"] < 1e-7
    assert made.A.std().item() == pytest.approx(0.02, rel=0.1)
    count = made.A.numel() + made.B.numel() + made.core.numel()
    assert count == METHOD.entries(16, 400, rank, {})


def peft_model(layers=SHAPES, **config):
    """PEFT's AdaLoRA of layers of these shapes; its forward pass has a loss of zero."""
    from peft import AdaLoraConfig, get_peft_model

    class Layers(torch.nn.Module):
        def __init__(self):
            super().__init__()
            for name, (out, into) in layers.items():
                setattr(self, name, torch.nn.Linear(into, out, bias=False))

        def forward(self):
            return SimpleNamespace(loss=torch.zeros(()))

    given = {"init_r": 6, "target_r": RANK, "tinit": 4, "tfinal": 10, "total_step": STEPS, "beta1": 0.85, "beta2": 0.85}
    return get_peft_model(Layers(), AdaLoraConfig(target_modules=list(layers), **given | config)).base_model


def copy(of, model):
    """Our parts and their gradients into PEFT's layers."""
    for name, parts in of.items():
        layer = getattr(model.model, name)
        for held, part in ((layer.lora_A, parts.A), (layer.lora_B, parts.B), (layer.lora_E, parts.core[:, None])):
            held["default"].data.copy_(part.detach())
        for held, part in ((layer.lora_A, parts.A), (layer.lora_B, parts.B), (layer.lora_E, parts.core)):
            held["default"].grad = part.grad.clone().view_as(held["default"])


@pytest.mark.parametrize("interval", [1, 3])
def test_the_masks_are_pefts_step_by_step(interval):
    """Given the same parts and gradients: PEFT has no part move between the importances and the mask."""
    ours, model, added = modules(), peft_model(deltaT=interval), training(interval=interval)
    generator, seen = torch.Generator().manual_seed(0), set()
    for step in range(1, STEPS + 1):
        fill(ours, generator)
        copy(ours, model)
        added.adjust(ours, step, STEPS)
        added.settle(ours, step, STEPS)
        model.update_and_allocate(step)
        for name, parts in ours.items():
            assert torch.equal(parts.core != 0, getattr(model.model, name).lora_E["default"][:, 0] != 0), (step, name)
        seen.add(int(alive(ours).sum()))
    assert len(seen) > 3 and min(seen) == RANK * len(SHAPES)


def test_the_penalty_is_pefts_and_moves_both_vectors_towards_orthogonality():
    ours = modules()
    fill(ours, torch.Generator().manual_seed(0))
    model = peft_model(orth_reg_weight=0.3)
    copy(ours, model)
    penalty = training(orthogonality=0.3).penalty(ours)
    assert penalty.ndim == 0
    assert penalty.item() == pytest.approx(model().loss.item(), rel=1e-6)
    moved = torch.autograd.grad(penalty, [ours["first"].A, ours["second"].B])
    assert all(gradient.norm() > 0 for gradient in moved)


def test_importances_are_equations_8_to_11():
    """Two steps of one module, with the numbers of the equations in float64."""
    ours, added, generator = modules(), training(), torch.Generator().manual_seed(1)
    mean = spread = torch.zeros(6, 16, dtype=torch.float64)
    for step in (1, 2):
        fill(ours, generator)
        part = ours["first"].A
        now = (part * part.grad).abs().double()
        mean = 0.85 * mean + 0.15 * now
        spread = 0.85 * spread + 0.15 * (now - mean).abs()
        added.adjust(ours, step, STEPS)
        assert torch.equal(part.grad, ours["first"].A.grad)
    state = added.state()
    assert torch.allclose(state["sensitivity.first.A"].double(), mean, rtol=1e-5)
    assert torch.allclose(state["uncertainty.first.A"].double(), spread, rtol=1e-5, atol=1e-9)


def test_the_budget_falls_by_the_cube_from_all_triplets_to_the_rank_of_the_cell():
    ours, added, generator, budgets = modules(), training(), torch.Generator().manual_seed(0), []
    for step in range(1, STEPS + 1):
        fill(ours, generator)  # wakes what was zero
        added.adjust(ours, step, STEPS)
        added.settle(ours, step, STEPS)
        budgets.append(int(alive(ours).sum()))
    assert budgets == [18] * 4 + [int(12 + 6 * (1 - step / 26) ** 3) for step in range(1, 27)] + [12] * 10


def test_the_rank_goes_where_the_gradients_are():
    ours, added, generator = modules(), training(), torch.Generator().manual_seed(0)
    for step in range(1, STEPS + 1):
        fill(ours, generator)
        for part in ours["second"].trained().values():
            part.grad = None if step % 2 else part.grad * 0  # as of experts that no token has reached
        added.adjust(ours, step, STEPS)
        added.settle(ours, step, STEPS)
    assert ours["second"].core.count_nonzero() == 0 and alive(ours).sum() == RANK * len(SHAPES)


def test_a_training_of_one_step_has_the_rank_of_the_cell_at_its_end():
    ours, added = modules(), training()
    fill(ours, torch.Generator().manual_seed(0))
    added.adjust(ours, 1, 1)
    added.settle(ours, 1, 1)
    assert alive(ours).sum() == RANK * len(SHAPES)


def train(ours, added, optimizer, first, last):
    """Least squares by all modules, from step `first` to `last`."""
    for step in range(first, last + 1):
        generator = torch.Generator().manual_seed(step)
        for name, parts in ours.items():
            wanted = decaying(*SHAPES[name])
            x = torch.randn(SHAPES[name][1], 8, generator=generator)
            made = parts.scaling * parts.B @ (parts.core[:, None] * (parts.A @ x))
            (wanted @ x - made).square().mean().backward()
        added.penalty(ours).backward()
        added.adjust(ours, step, STEPS)
        optimizer.step()
        added.settle(ours, step, STEPS)
        optimizer.zero_grad()


@pytest.mark.parametrize("stop", [3, 17, 34])
def test_what_is_kept_goes_on_as_if_nothing_had_happened(stop):
    """Killed before the budget falls, while it falls, and when it has fallen."""
    whole, added = modules(), training()
    train(whole, added, torch.optim.AdamW(parameters(whole), lr=1e-2), 1, STEPS)
    halves, added = modules(), training()
    optimizer = torch.optim.AdamW(parameters(halves), lr=1e-2)
    train(halves, added, optimizer, 1, stop)
    kept = {name: value.clone() for name, value in added.state().items()}
    added = training()
    added.restore(kept)
    train(halves, added, optimizer, stop + 1, STEPS)
    assert all(torch.equal(*pair) for pair in zip(parameters(whole), parameters(halves), strict=True))
    assert alive(whole).sum() == RANK * len(SHAPES)


@pytest.mark.parametrize("wrong", [{"warmup_share": 0.6, "final_share": 0.4}, {"beta1": 1.0}, {"beta2": 0.0}])
def test_options_that_cannot_be_are_refused_before_anything_runs(wrong):
    with pytest.raises(UserError, match=f"config.methods.mine.*'{next(iter(wrong))}'"):
        methods.options("adalora", "none", wrong, "config.methods.mine")
