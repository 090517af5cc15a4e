"""LoRA-Pro: the closest equivalent gradient, the X of its Sylvester equation, and AdamW of the equivalent gradient."""

import pytest
import torch
from starting import decaying, parts_of, relative, spec_of, start_of

from pissa_repro import methods

METHOD = methods.load("lora_pro")
OUT, INTO, RANK, SCALING = 20, 28, 5, 2.0
ADAM = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pair(rank=RANK, out=OUT, into=INTO, scaling=SCALING):
    return parts_of(methods.Start(A=random(rank, into, seed=1), B=random(out, rank, seed=2)), scaling)


def lora_gradients(parts, full):
    """What LoRA's A and B get where the gradient of W is `full`."""
    with torch.no_grad():
        return parts.scaling * parts.B.mT @ full, parts.scaling * full @ parts.A.mT


def equivalent(parts, ways):
    with torch.no_grad():
        return parts.scaling * (parts.B @ ways[0] + ways[1] @ parts.A)


def steps_of(parts):
    with torch.no_grad():
        return METHOD.Steps(parts)


def test_no_other_steps_come_nearer_to_the_full_gradient():
    """What is missing is orthogonal to all that s (B G + H A) can be."""
    parts, full = pair(), random(OUT, INTO)
    gradients = lora_gradients(parts, full)
    best = equivalent(parts, steps_of(parts).closest(*gradients))
    missing = full - best
    assert (parts.B.mT @ missing).abs().max() < 1e-4 and (missing @ parts.A.mT).abs().max() < 1e-4
    assert missing.norm() < (full - equivalent(parts, gradients)).norm()  # LoRA's own
    for seed in range(5):
        other = equivalent(parts, (random(RANK, INTO, seed=seed), random(OUT, RANK, seed=seed + 9)))
        assert (full - best - 0.01 * other).norm() >= missing.norm()


def test_the_equivalent_gradient_is_the_same_for_every_x():
    parts, full = pair(), random(OUT, INTO)
    steps, gradients = steps_of(parts), lora_gradients(parts, full)
    made = steps.equivalent(*gradients)
    to_a, to_b = steps.closest(*gradients)
    assert relative(equivalent(parts, (to_a, to_b)), made) < 1e-5
    assert relative(equivalent(parts, steps.balanced(*gradients)), made) < 1e-5
    x = random(RANK, RANK)
    assert relative(equivalent(parts, (to_a + x @ parts.A, to_b - parts.B @ x)), made) < 1e-5


def test_x_solves_the_sylvester_equation_and_is_nearest_to_loras_gradients():
    """Against SciPy's solver and against steps beside it."""
    from scipy.linalg import solve_sylvester

    parts, full = pair(), random(OUT, INTO)
    gradients, steps = lora_gradients(parts, full), steps_of(parts)
    to_a, to_b = steps.closest(*gradients)
    a, b = parts.A.detach().double(), parts.B.detach().double()
    x = torch.from_numpy(solve_sylvester((b.mT @ b).numpy(), (a @ a.mT).numpy(), (-to_a.double() @ a.mT).numpy()))
    balanced = steps.balanced(*gradients)
    assert relative(balanced[0], to_a + x @ a) < 1e-5 and relative(balanced[1], to_b - b @ x) < 1e-5

    def far(ways):
        return sum((way - gradient).square().sum() for way, gradient in zip(ways, gradients, strict=True))

    for seed in range(5):
        other = 0.01 * random(RANK, RANK, seed=seed)
        assert far(balanced) < far((balanced[0] + other @ parts.A, balanced[1] - parts.B @ other))


def test_at_loras_start_b_takes_the_projection_on_the_rows_of_a():
    """B = 0: no inverse of B^T B; nothing is infinite, and what s H A makes is G A^+ A."""
    made, _ = start_of("layer", decaying(OUT, INTO), spec_of("lora_pro", "none", RANK, RANK))
    parts, full = parts_of(made, SCALING), random(OUT, INTO)
    ways = steps_of(parts).balanced(*lora_gradients(parts, full))
    assert ways[0].count_nonzero() == 0
    assert relative(equivalent(parts, ways), full @ torch.linalg.pinv(made.A) @ made.A) < 1e-4


def groups_of(*parameters):
    return [{"params": list(parameters)}]


def train(parts, optimizer, first, last, more=()):
    """Least squares from step `first` to `last`; W is zero."""
    for step in range(first, last + 1):
        x, wanted = random(INTO, 16, seed=step), decaying(OUT, INTO)
        made = parts.scaling * parts.B @ parts.A
        ((made - wanted) @ x).square().mean().backward()
        for one in more:
            one.grad = random(*one.shape, seed=step)
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("rate", [1e-3, 1e-4])
def test_where_the_factors_can_make_every_step_it_is_adamw_of_the_weight(rate):
    """A rank of all of W: s B A moves as torch's AdamW moves W, to first order in the learning rate."""
    parts = pair(rank=OUT)
    weight = torch.nn.Parameter((parts.scaling * parts.B @ parts.A).detach().clone())
    before = weight.detach().clone()
    adam = ADAM | {"lr": rate, "weight_decay": 0.0}
    plain = torch.optim.AdamW([weight], **adam)
    train(parts, METHOD.TRAINING({}).optimizer({"layer": parts}, groups_of(parts.A, parts.B), adam), 1, 4)
    for step in range(1, 5):
        ((weight - decaying(OUT, INTO)) @ random(INTO, 16, seed=step)).square().mean().backward()
        plain.step()
        plain.zero_grad()
    moved = (parts.scaling * parts.B @ parts.A).detach() - before
    assert relative(moved, weight.detach() - before) < 100 * rate


def test_weight_decay_shrinks_both_factors_apart_from_the_step():
    """AdamW's: of a step with and one without, the difference is the share of the factor that is taken off."""
    found = []
    for decay in (0.0, 0.1):
        parts = pair()
        adam = ADAM | {"weight_decay": decay}
        train(parts, METHOD.TRAINING({}).optimizer({"layer": parts}, groups_of(parts.A, parts.B), adam), 1, 1)
        found.append(parts)
    for name in ("A", "B"):
        without, with_decay = (getattr(parts, name).detach() for parts in found)
        assert torch.allclose(without - with_decay, 0.1 * ADAM["lr"] * getattr(pair(), name), atol=1e-6)


def test_what_is_in_no_pair_moves_by_torchs_adamw():
    """A trained bias or head beside the factors, bit for bit; and a pair without gradients stays."""
    bias, same, idle = torch.nn.Parameter(random(7)), torch.nn.Parameter(random(7)), pair()
    parts, plain = pair(), torch.optim.AdamW([same], **ADAM)
    modules = {"layer": parts, "idle": idle}
    optimizer = METHOD.TRAINING({}).optimizer(modules, groups_of(parts.A, parts.B, bias, idle.A, idle.B), ADAM)
    train(parts, optimizer, 1, 3, more=[bias])
    for step in range(1, 4):
        same.grad = random(7, seed=step)
        plain.step()
    assert torch.equal(bias, same) and torch.equal(idle.A, pair().A) and torch.equal(idle.B, pair().B)


def test_the_optimizers_state_goes_on_as_if_nothing_had_happened():
    def start():
        made, _ = start_of("layer", decaying(OUT, INTO), spec_of("lora_pro", "none", RANK, RANK))
        parts = parts_of(made, SCALING)
        return parts, METHOD.TRAINING({}).optimizer({"layer": parts}, groups_of(parts.A, parts.B), ADAM)

    whole, optimizer = start()
    train(whole, optimizer, 1, 8)
    halves, optimizer = start()
    train(halves, optimizer, 1, 3)
    kept = optimizer.state_dict()
    assert kept["state"][1]["exp_avg"].shape == (OUT, INTO)
    other, optimizer = start()
    other.A.data, other.B.data = halves.A.data.clone(), halves.B.data.clone()
    optimizer.load_state_dict(kept)
    train(other, optimizer, 4, 8)
    assert torch.equal(whole.A, other.A) and torch.equal(whole.B, other.B)
