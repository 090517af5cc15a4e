"""LoRA-GA: the first step of A and B moves W by the best rank 2r of its gradient."""

import pytest
import torch
from starting import decaying, made_up, relative, spec_of, start_of

from pissa_repro import methods
from pissa_repro.runtime.errors import UserError

RANK = 6


def start(shape, alpha=RANK, rank=RANK, **options):
    return start_of("layer", decaying(*shape), spec_of("lora_ga", "none", rank, alpha, **options), made_up(shape))[0]


def first_step(a, b, gradient, scaling=1.0, rate=1e-6):
    """How a step of gradient descent on A and B moves s B A, for a loss with this gradient of W, over the rate."""
    a, b, g = a.double(), b.double(), gradient.double()
    stepped = (b - rate * scaling * g @ a.mT) @ (a - rate * scaling * b.mT @ g)
    return scaling * (stepped - b @ a) / rate


def best(gradient, rank):
    u, s, vh = torch.linalg.svd(gradient.double(), full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ vh[:rank]


@pytest.mark.parametrize("shape", [(64, 64), (48, 96), (96, 48)])
@pytest.mark.parametrize("alpha", [RANK, 2 * RANK])
def test_the_first_step_is_the_best_rank_2r_of_the_gradient(shape, alpha):
    """Theorem 3.1: the step is -s^2 c^2 of it, c^2 = sqrt(out) / gamma."""
    gradient, s = made_up(shape)["gradient"], alpha / RANK
    made = start(shape, alpha)
    moved = first_step(made.A, made.B, gradient, s)
    assert relative(moved, -(s**2) * shape[0] ** 0.5 / 64 * best(gradient, 2 * RANK)) < 1e-4


def test_no_other_directions_of_the_same_size_come_nearer():
    gradient, drawn = made_up((48, 96))["gradient"].double(), torch.Generator().manual_seed(0)
    made = start((48, 96))

    def apart(a, b):
        step = first_step(a, b, gradient)
        return (gradient - (gradient * step).sum() / step.square().sum() * step).norm()

    for _ in range(5):
        a, b = (torch.linalg.qr(torch.randn(side, RANK, generator=drawn))[0] for side in (96, 48))
        size = made.A.norm() / RANK**0.5
        assert apart(size * a.mT, size * b) > apart(made.A, made.B)


def test_the_factors_have_orthogonal_rows_and_columns_of_the_papers_size():
    """Theorem 3.2: d_out^(1/4) / sqrt(gamma), whatever the gradient's size."""
    for gamma in (64, 16):
        made = start((48, 96), gamma=gamma)
        for part in (made.A, made.B.mT):
            assert torch.allclose(part @ part.mT, 48**0.5 / gamma * torch.eye(RANK), atol=1e-5)


@pytest.mark.parametrize("rank", [30, 48])
def test_with_2r_above_the_smaller_side_the_step_still_sees_the_whole_gradient(rank):
    gradient = made_up((48, 96))["gradient"]
    made = start((48, 96), rank, rank)
    moved = -first_step(made.A, made.B, gradient)
    assert torch.linalg.matrix_rank(moved) == 48
    u, s, vh = torch.linalg.svd(gradient.double(), full_matrices=False)
    times = torch.diag(u.mT @ moved @ vh.mT) / s * 64 / 48**0.5
    both = torch.arange(48).ge(48 - rank) & torch.arange(48).lt(rank)
    assert torch.allclose(times, 1 + both.double(), atol=1e-3)


def test_pefts_b_carries_the_gradients_singular_values_and_ours_does_not():
    """Algorithm 1 has the vectors alone, in A as in B; PEFT's A is not scaled and its B is."""
    from peft import LoraConfig, get_peft_model
    from peft.tuners.lora.config import LoraGAConfig

    gradient, rank = made_up((48, 96))["gradient"], 12  # PEFT takes 4r = 48 triples: all
    model = torch.nn.Sequential(torch.nn.Linear(96, 48, bias=False))
    model[0].weight.data, model[0]._peft_loraga_grad = decaying(48, 96), gradient
    fields = {"r": rank, "lora_alpha": rank, "target_modules": ["0"]}
    config = LoraConfig(init_lora_weights="lora_ga", lora_ga_config=LoraGAConfig(stable_gamma=64), **fields)
    layer = get_peft_model(model, config).base_model.model[0]
    a, b = (part["default"].weight.data for part in (layer.lora_A, layer.lora_B))
    made, size = start((48, 96), rank, rank), 48**0.25 / 64**0.5
    values = torch.linalg.svdvals(gradient)[rank : 2 * rank]
    assert relative((made.A / size).abs(), a.abs()) < 1e-3
    assert relative((made.B * values).abs(), b.abs()) < 1e-3


def test_a_gamma_of_zero_is_refused():
    with pytest.raises(UserError, match=r"here \(lora_ga\): option 'gamma' is 0; it must be a number above 0"):
        methods.options("lora_ga", "none", {"gamma": 0}, "here")
