"""EVA: A along the most variance of the inputs, and ranks where it explains most."""

import hypothesis
import hypothesis.strategies as some
import pytest
import torch
from starting import decaying, made_up, spec_of, start_of

from pissa_repro import methods
from pissa_repro.runtime.errors import UserError
from pissa_repro.starts.make import spectrum

RANK = 6
EVA = methods.load("eva")


def setting(name, weight, covariance, rank=RANK, rho=2.0):
    drawn = torch.Generator()
    return methods.Setting(rank, 1.0, "none", drawn, spectrum(name, weight), {"rho": rho}, {"covariance": covariance})


@pytest.mark.parametrize("shape", [(64, 64), (48, 96), (96, 48), (64, 600)])
def test_a_explains_as_much_variance_as_r_orthonormal_rows_can_and_b_is_zero(shape):
    """Theorem 3.1; at 600 inputs the directions come from block Krylov."""
    data = made_up(shape)
    made, _ = start_of("layer", decaying(*shape), spec_of("eva", "none", RANK, RANK), data)
    assert torch.allclose(made.A @ made.A.mT, torch.eye(RANK), atol=1e-5)
    assert made.offset is None and not made.B.any()
    most = torch.linalg.eigvalsh(data["covariance"].double())[-RANK:].sum()
    assert ((made.A @ data["covariance"]) * made.A).sum().item() == pytest.approx(most.item(), rel=1e-4)


@pytest.mark.parametrize("rho", [1.0, 2.0, 100.0])
def test_the_summary_is_the_shares_of_the_variance_up_to_what_a_module_may_have(rho):
    data = made_up((48, 96))
    found = EVA.summary(decaying(48, 96), setting("layer", decaying(48, 96), data["covariance"], rho=rho))
    values = torch.linalg.eigvalsh(data["covariance"].double()).flip(0)
    most = min(round(rho * RANK), 48)
    assert torch.allclose(found.double(), values[:most] / values.sum(), rtol=1e-4, atol=1e-7)


SHARES = some.lists(some.floats(0, 1, width=32), min_size=1, max_size=12)


@hypothesis.settings(max_examples=60)
@hypothesis.given(some.dictionaries(some.text("abc", min_size=1), SHARES, min_size=1, max_size=6), some.data())
def test_ranks_keep_their_sum_and_no_exchange_explains_more(shares, data):
    """Every module has one, none more than its summary allows, and what is left out is no larger than what is in."""
    summaries = {name: torch.tensor(sorted(found, reverse=True)) for name, found in shares.items()}
    rank = data.draw(some.integers(1, min(map(len, shares.values()))))
    found = EVA.ranks(rank, summaries, {})
    assert sum(found.values()) == rank * len(shares) and found.keys() == shares.keys()
    assert all(1 <= found[name] <= len(summaries[name]) for name in found)
    inside = [s for name, n in found.items() for s in summaries[name][1:n].tolist()]
    outside = [s for name, n in found.items() for s in summaries[name][n:].tolist()]
    assert not inside or not outside or min(inside) >= max(outside)


def test_rho_1_leaves_all_ranks_equal():
    summaries = {name: torch.linspace(size, 0, RANK) for name, size in (("a", 1.0), ("b", 0.01))}
    assert EVA.ranks(RANK, summaries, {"rho": 1.0}) == {"a": RANK, "b": RANK}


class Two(torch.nn.Module):
    """Two layers with inputs of their own, for PEFT to look at."""

    def __init__(self):
        super().__init__()
        self.a, self.b = torch.nn.Linear(48, 40, bias=False), torch.nn.Linear(64, 40, bias=False)

    def forward(self, x):
        return self.a(x[:, :48].contiguous()) + self.b(x[:, 48:].contiguous())


def of_peft(inputs, rank):
    """A of both layers by PEFT's `eva`, which runs the same batch until the directions no longer move."""
    from peft import EvaConfig, LoraConfig
    from peft.tuners.lora.eva import get_eva_state_dict

    eva = EvaConfig(rho=2.0, tau=0.9999)
    config = LoraConfig(init_lora_weights="eva", r=rank, target_modules=["a", "b"], eva_config=eva)
    return get_eva_state_dict(
        Two(), [inputs], config, forward_fn=lambda model, x: model(x), prepare_model_inputs_fn=None,
        prepare_layer_inputs_fn=None, show_progress_bar=False,
    )  # fmt: skip


def test_the_same_directions_and_ranks_as_peft_for_inputs_of_mean_zero():
    """PEFT subtracts the inputs' mean."""
    noise = torch.randn(400, 112, generator=torch.Generator().manual_seed(0))
    steep, flat = torch.arange(1, 49) ** -1.5, torch.arange(1, 65) ** -0.6
    turns = torch.block_diag(*(torch.linalg.qr(noise[:size, :size])[0] for size in (48, 64)))
    inputs = noise * torch.cat((steep, flat)) @ turns
    inputs -= inputs.mean(0)
    theirs, data = of_peft(inputs, 4), {"a": inputs[:, :48], "b": inputs[:, 48:]}

    def of(name, rank=4):
        weight = decaying(40, data[name].shape[1])
        return weight, setting(name, weight, data[name].mT @ data[name] / len(inputs), rank)

    ranks = EVA.ranks(4, {name: EVA.summary(*of(name)) for name in data}, {"rho": 2.0})
    assert ranks == {name: len(rows) for name, rows in theirs.items()} and ranks["a"] != ranks["b"]
    for name, rank in ranks.items():
        found = EVA.start(*of(name, rank)).A
        assert torch.allclose((found * theirs[name].float()).sum(1).abs(), torch.ones(rank), atol=1e-4)


def test_a_module_that_the_data_never_reached_is_refused():
    with pytest.raises(UserError, match="layer.weight: its inputs are zero in all rows"):
        EVA.start(decaying(48, 96), setting("layer", decaying(48, 96), torch.zeros(96, 96)))


def test_a_rho_below_one_is_refused():
    with pytest.raises(UserError, match=r"here \(eva\): option 'rho' is 0.9; it must be a number from 1"):
        methods.options("eva", "none", {"rho": 0.9}, "here")
