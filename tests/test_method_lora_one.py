"""LoRA-One: W after one step of gradient descent, of rank r."""

import pytest
import torch
from starting import decaying, made_up, relative, shares_roots, spec_of, start_of

from pissa_repro import methods
from pissa_repro.runtime.errors import UserError

RANK = 6
SHAPE = (48, 96)


def start(statistics, alpha=RANK, **options):
    return start_of("layer", decaying(*SHAPE), spec_of("lora_one", "none", RANK, alpha, **options), statistics)


@pytest.mark.parametrize("alpha", [RANK, 2 * RANK])
@pytest.mark.parametrize("gamma", [128, 16])
def test_the_start_is_a_step_of_rate_s_over_gamma_along_the_best_rank_r_of_the_gradient(gamma, alpha):
    data, s = made_up(SHAPE), alpha / RANK
    made, facts = start(data, alpha, gamma=gamma)
    u, values, vh = torch.linalg.svd(data["gradient"].double(), full_matrices=False)
    step = -s / gamma * (u[:, :RANK] * values[:RANK]) @ vh[:RANK]
    assert made.offset is None and relative(s * made.B @ made.A, step) < 1e-5
    assert facts["equality_error"] == pytest.approx((step.norm() / decaying(*SHAPE).norm()).item(), rel=1e-4)


def test_the_factors_share_the_root_and_the_loss_falls():
    data = made_up(SHAPE)
    made, _ = start(data)
    assert shares_roots(made)
    assert (data["gradient"] * (made.B @ made.A)).sum() < 0


def test_a_module_that_the_data_never_reached_is_refused():
    with pytest.raises(UserError, match=r"layer.weight \(its gradient\) has 0 non-zero singular values"):
        start({"gradient": torch.zeros(SHAPE)})


def test_a_gamma_of_zero_is_refused():
    with pytest.raises(UserError, match=r"here \(lora_one\): option 'gamma' is 0.0; it must be a number above 0"):
        methods.options("lora_one", "none", {"gamma": 0.0}, "here")
