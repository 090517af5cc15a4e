"""Quantization errors: their definition, what the paper says of them, and of trained factors on any base."""

import json
from functools import partial

import pytest
import torch
from commands import pissa
from helpers import LLAMA, Run, save_weights
from safetensors.torch import load_file
from starting import alternating, decaying, spec_of, start_of

from pissa_repro import quantizers
from pissa_repro.model import checkpoint, factors
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import canonical, read_json
from pissa_repro.stages import quant_error
from pissa_repro.starts import error
from pissa_repro.starts.kept import Kept

RANKS = [2, 8, 32, 64]
TARGETS = ["q_proj", "k_proj", "up_proj", "down_proj"]


def nuclear(matrix):
    return torch.linalg.svdvals(matrix.double()).sum().item()


def error_of(method, weight, rank=8, quant="nf4", **options):
    spec = spec_of(method, quant, rank, rank, **options)
    rest = error.rest_of(weight, start_of("m.q_proj", weight, spec)[0], spec)
    return error.compared(error.error(rest), error.plain_error(weight, quant))


def test_the_reduction_is_equation_8():
    """100 * (1 - nuc(W - (nf4(W - BA) + BA)) / nuc(W - nf4(W))), written out once more."""
    weight = decaying(64, 128)
    u, s, vh = torch.linalg.svd(weight, full_matrices=False)
    product = (u[:, :8] * s[:8]) @ vh[:8]
    rest = weight - product - quantizers.roundtrip(weight - product, "nf4")
    plain = weight - quantizers.roundtrip(weight, "nf4")
    found = error_of("pissa", weight)
    assert found["nuclear"] == pytest.approx(nuclear(rest), rel=1e-4)
    assert found["frobenius"] == pytest.approx(rest.double().norm().item(), rel=1e-4)
    assert found["nuclear_plain"] == pytest.approx(nuclear(plain), rel=1e-6)
    assert found["frobenius_plain"] == pytest.approx(plain.double().norm().item(), rel=1e-6)
    assert found["reduction"] == pytest.approx(100 * (1 - nuclear(rest) / nuclear(plain)), abs=0.01)


def test_the_mean_is_over_layers_then_over_types():
    reductions = {"a.0.q_proj": 10, "a.1.q_proj": 20, "a.0.down_proj": 5}
    found = error.by_type({name: {"reduction": value} for name, value in reductions.items()})
    assert found == {"q_proj": 15, "down_proj": 5, "avg": 10}


def test_a_weight_that_quantization_does_not_change_has_nothing_to_reduce():
    found = error_of("lora", torch.zeros(64, 64))
    assert found["nuclear"] == found["nuclear_plain"] == found["reduction"] == 0


@pytest.fixture(scope="module")
def averages(tmp_path_factory):
    """Average reduction in percent of (method, alternations, rank) on two layers whose spectra decay."""
    shapes = {"self_attn.q_proj": (128, 128), "self_attn.k_proj": (64, 128), "mlp.up_proj": (192, 128)}
    shapes["mlp.down_proj"] = (128, 192)
    weights = {
        f"model.layers.{layer}.{name}": decaying(*shape, seed=7 * layer + number)
        for layer in range(2)
        for number, (name, shape) in enumerate(shapes.items())
    }
    folder = tmp_path_factory.mktemp("errors")
    save_weights(folder / "model", weights)
    points = [("lora", None, 8), *((m, t, r) for m in ("loftq", "pissa") for t in (1, 5) for r in RANKS)]
    specs = [
        spec_of(m, "nf4", r, r, **({"alternations": t} if t else {})) | {"target_modules": TARGETS}
        for m, t, r in points
    ]
    kept = Kept(folder / "kept", "0" * 64)
    found = error.measure_starts(str(folder / "model"), specs, kept)
    return {point: error.by_type(modules)["avg"] for point, modules in zip(points, found, strict=True)}


def test_qlora_reduces_nothing(averages):
    """By definition: its factors start with a product of zero."""
    assert averages["lora", None, 8] == 0


@pytest.mark.parametrize("turns", [1, 5])
@pytest.mark.parametrize("rank", RANKS)
def test_on_average_pissa_reduces_more_than_loftq_and_loftq_more_than_nothing(averages, rank, turns):
    """Of single projections nothing is said: at one alternation LoftQ leads on some in the paper's Table 4."""
    assert averages["pissa", turns, rank] > averages["loftq", turns, rank] > 0


@pytest.mark.parametrize("method", ["loftq", "pissa"])
@pytest.mark.parametrize("rank", RANKS)
def test_five_alternations_reduce_more_than_one(averages, rank, method):
    assert averages[method, 5, rank] > averages[method, 1, rank]


@pytest.mark.parametrize("method", ["loftq", "pissa"])
@pytest.mark.parametrize("turns", [1, 5])
def test_a_higher_rank_reduces_more(averages, turns, method):
    reductions = [averages[method, turns, rank] for rank in RANKS]
    assert reductions == sorted(reductions) and reductions[0] < reductions[-1]


def measured(run, folder, *quants, trained=False):
    """The record of the stage for the run's factors, on the bases that its spec names: without any, on its own."""
    out = folder / "quant_error.json"
    spec = run.sweep.quant_error_spec(run.cell) | ({"evaluated_as": list(quants)} if quants else {})
    extra = ["--trained", str(run.trained)] if trained else []
    quant_error.main([
        "--spec", canonical(spec), "--model", str(run.model), "--factors", str(run.start), "--out", str(out), *extra,
    ])  # fmt: skip
    return read_json(out)


def test_the_stage_measures_what_the_init_made(tmp_path, tiny_model, tiny_rows):
    found = {}
    for method in ("lora", "loftq", "pissa"):
        options = alternating(method, "nf4", 5)
        run = Run(tmp_path / method, tiny_model, tiny_rows, method, "nf4", options=options)
        run.init()
        found[method] = measured(run, tmp_path)
    assert found["lora"]["reduction"]["avg"] == 0
    assert set(found["pissa"]["reduction"]) == {*LLAMA, "avg"}
    assert found["pissa"]["reduction"]["avg"] > found["loftq"]["reduction"]["avg"] > 0
    plain = {method: record["total"]["nuclear_plain"] for method, record in found.items()}
    assert len(set(plain.values())) == 1
    json.dumps(found, allow_nan=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_model, tiny_rows):
    """QPiSSA at s = 2 after two steps of training."""
    run = Run(tmp_path_factory.mktemp("trained"), tiny_model, tiny_rows, "pissa", "nf4", alpha=8, steps=2)
    run.init()
    run.train()
    return run


@pytest.mark.parametrize("base", ["nf4", "none", "int8"])
def test_the_error_of_trained_factors_is_of_the_model_that_they_make(trained, tmp_path, base):
    """W - (quantize(W - s B0 A0) + s B A) by hand, of one module; the base is made from the start's factors."""
    record = measured(trained, tmp_path, base, trained=True)
    name = "model.layers.1.mlp.down_proj"
    weight = dict(checkpoint.targets(trained.sweep.config["models"]["tiny"]["path"], LLAMA))[name]
    (a0, b0), (a, b) = (
        [load_file(folder / factors.FACTORS)[f"base_model.model.{name}.lora_{side}.weight"] for side in "AB"]
        for folder in (trained.start, trained.factors)
    )
    assert not torch.equal(a0, a)
    rest = weight - quantizers.roundtrip(weight - 2 * b0 @ a0, base) - 2 * b @ a
    found = record["evaluated_as"][base]["modules"][name]
    assert found["nuclear"] == pytest.approx(nuclear(rest), rel=1e-3)
    if base == "none":  # what training has changed; no plain error to compare with
        assert "reduction" not in found and record["evaluated_as"]["none"]["reduction"] is None
        assert found["nuclear"] == pytest.approx(nuclear(2 * (b0 @ a0 - b @ a)), rel=1e-3)
    else:
        plain = nuclear(weight - quantizers.roundtrip(weight, base))
        assert found["reduction"] == pytest.approx(100 * (1 - nuclear(rest) / plain), abs=0.1)


def test_several_bases_are_measured_side_by_side(trained, tmp_path):
    both = measured(trained, tmp_path, "none", "nf4", trained=True)
    assert list(both["evaluated_as"]) == ["nf4", "none"]  # a record is sorted
    one = measured(trained, tmp_path, trained=True)
    assert one["evaluated_as"] == {"nf4": both["evaluated_as"]["nf4"]}


def test_by_hand_the_errors_of_trained_factors_are_those_of_the_workflow(trained, tmp_path):
    start, out = trained.start, tmp_path / "made.json"
    by_hand = partial(pissa, "quant-error", read_json(trained.model)["path"], "--factors", start, "--out", out)
    by_hand("--trained", trained.trained, "--evaluated-as", "none", "--evaluated-as", "nf4")
    found = read_json(out)["evaluated_as"]
    assert found == measured(trained, tmp_path, "none", "nf4", trained=True)["evaluated_as"]
    by_hand("--evaluated-as", "nf4", "--evaluated-as", "int8")
    found = read_json(out)["evaluated_as"]
    assert list(found) == ["int8", "nf4"] and found["nf4"]["total"] == measured(trained, tmp_path)["total"]


def test_a_start_has_no_error_on_a_plain_base(trained, tmp_path):
    with pytest.raises(UserError, match="'none' has no quantization error"):
        measured(trained, tmp_path, "none")


def test_an_unknown_base_is_named_with_the_choices(trained, tmp_path):
    with pytest.raises(UserError, match=r"--evaluated-as: unknown quant 'nf5'. Did you mean 'nf4'\? Choices: fp4, hqq"):
        factors_of = ("--factors", trained.start, "--trained", trained.trained, "--evaluated-as", "nf5")
        pissa("quant-error", read_json(trained.model)["path"], *factors_of, "--out", tmp_path / "none.json")


def test_a_trained_adapter_with_more_than_factors_is_refused(tmp_path):
    from safetensors.torch import save_file

    from pissa_repro.runtime.record import write_json

    start = factors.Factors({"m": torch.ones(2, 8)}, {"m": torch.ones(8, 2)}, None, 2, 2.0, False)
    tensors, folder = (
        {f"base_model.model.m.lora_{side}.weight": torch.ones(2, 2) for side in "AB"},
        tmp_path / "factors",
    )
    folder.mkdir()
    save_file({**tensors, "base_model.model.m.lora_magnitude_vector": torch.ones(8)}, folder / factors.FACTORS)
    write_json(folder / factors.CONFIG, {"r": 2, "lora_alpha": 2, "use_rslora": False})
    with pytest.raises(UserError, match="magnitude"):
        factors.load_trained(tmp_path, start)
