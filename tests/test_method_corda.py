"""CorDA: the largest or the smallest triples of W C, behind C^-1."""

import pytest
import torch
from starting import decaying, made_up, relative, shares_roots, sides, spec_of, start_of

RANK = 6
MODES = ("ipm", "kpm")


def start(shape, statistics=None, alpha=RANK, rank=RANK, **options):
    spec = spec_of("corda", "none", rank, alpha, **options)
    return start_of("layer", decaying(*shape), spec, statistics or made_up(shape))[0]


def damped(statistics):
    """As the reference: 0.01 of the mean of the diagonal is added to it."""
    found = statistics["covariance"].double()
    return found + 0.01 * found.diagonal().mean() * torch.eye(len(found))


@pytest.mark.parametrize("shape", [(64, 64), (48, 96), (96, 48)])
@pytest.mark.parametrize("mode", MODES)
def test_it_is_the_triples_of_w_c_behind_the_inverse_of_c(mode, shape):
    weight, c = decaying(*shape), damped(made_up(shape))
    u, s, vh = torch.linalg.svd(weight.double() @ c, full_matrices=False)
    cut = slice(RANK) if mode == "ipm" else slice(len(s) - RANK, len(s))
    made = start(shape, mode=mode)
    assert relative(made.B @ made.A, (u[:, cut] * s[cut]) @ vh[cut] @ torch.linalg.inv(c)) < 1e-4
    assert torch.allclose(made.B.mT @ made.B, torch.diag(s[cut]).float(), rtol=1e-3, atol=1e-4 * s[cut].max().item())


@pytest.mark.parametrize("mode", MODES)
def test_what_the_base_keeps_of_w_c_are_the_other_triples(mode):
    """Mode ipm leaves the least that rank r can of |base C|, mode kpm the most."""
    weight, c = decaying(48, 96), damped(made_up((48, 96)))
    base, _ = sides(start((48, 96), mode=mode, alpha=2 * RANK), weight, 2.0, "none")
    values = torch.linalg.svdvals(weight.double() @ c)
    others = values[RANK:] if mode == "ipm" else values[:-RANK]
    found = torch.linalg.svdvals(base.double() @ c)[: len(others)]
    assert torch.allclose(found, others, rtol=1e-3, atol=1e-6 * values[0].item())


@pytest.mark.parametrize("mode", MODES)
def test_at_full_rank_nothing_is_left(mode):
    weight = decaying(48, 96)
    base, product = sides(start((48, 96), mode=mode, rank=48, alpha=48), weight, 1.0, "none")
    assert relative(product, weight) < 1e-5 and base.norm() < 1e-5 * weight.norm()


def test_inputs_that_do_not_correlate_make_it_pissa():
    made = start((48, 96), {"covariance": torch.eye(96)})
    spec = spec_of("pissa", "none", RANK, RANK)
    other, _ = start_of("layer", decaying(48, 96), spec)
    assert relative(made.B @ made.A, other.B @ other.A) < 1e-5 and shares_roots(other)


class OneLayer(torch.nn.Module):
    """The smallest model that PEFT can wrap."""

    def __init__(self, weight):
        super().__init__()
        self.layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        self.layer.weight.data = weight.clone()


@pytest.mark.parametrize("alpha", [RANK, 2 * RANK])
@pytest.mark.parametrize("mode", MODES)
def test_the_same_factors_and_base_as_peft_on_the_same_covariance(mode, alpha, tmp_path):
    from peft import LoraConfig, get_peft_model
    from peft.tuners.lora.config import CordaConfig
    from peft.tuners.lora.corda import preprocess_corda

    weight, data = decaying(48, 96), made_up((48, 96))
    torch.save({"layer": data["covariance"]}, tmp_path / "covariance.pt")
    corda = CordaConfig(corda_method=mode, covariance_file=str(tmp_path / "covariance.pt"))
    fields = {"r": RANK, "lora_alpha": alpha, "target_modules": ["layer"], "corda_config": corda}
    config, model = LoraConfig(init_lora_weights="corda", **fields), OneLayer(weight)
    preprocess_corda(model, config)
    layer = get_peft_model(model, config).base_model.model.layer
    a, b = (part["default"].weight.data for part in (layer.lora_A, layer.lora_B))
    made = start((48, 96), data, alpha, mode=mode)
    assert relative(made.B @ made.A, b @ a) < 1e-3
    assert relative(sides(made, weight, alpha / RANK, "none")[0], layer.base_layer.weight.data) < 1e-3
    signs = (made.B * b).sum(0).sign()
    assert relative(made.B * signs, b) < 1e-3 and relative(made.A * signs[:, None], a) < 1e-3
