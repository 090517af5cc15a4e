"""What the init stage writes and what it refuses."""

import pytest
import torch
from helpers import LLAMA, Run, module_names, save_weights
from safetensors.torch import load_file
from starting import alternating, decaying, made_of, relative, sides, spec_of, start_of, with_values

from pissa_repro.linalg import spectrum
from pissa_repro.model import checkpoint, factors
from pissa_repro.model.adapter import attach
from pissa_repro.model.load import load_base
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import read_json
from pissa_repro.starts import make
from pissa_repro.starts.make import start_model, start_module


def test_a_rank_above_the_smaller_side_is_refused_with_the_module_named():
    """Pitfall 6."""
    spec = spec_of("pissa", "none", 49, 49)
    with pytest.raises(UserError, match=r"rank 49: model\.layers\.0\.q_proj \(48, 96\) has ranks from 1 to 48"):
        start_of("model.layers.0.q_proj", decaying(48, 96), spec)
    start_of("model.layers.0.q_proj", decaying(48, 96), spec_of("pissa", "none", 48, 48))


def test_the_full_rank_takes_the_whole_weight():
    weight = decaying(32, 48)
    start, facts = start_of("m", weight, spec_of("pissa", "none", 32, 32))
    assert relative(start.B @ start.A, weight) < 1e-5
    assert facts["norm_offset"] == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize(
    ("method", "quant", "kind"), [("pissa", "none", "start"), ("lora", "nf4", None), ("loftq", "nf4", "own")]
)
def test_the_folder_is_read_back_to_the_bit(tmp_path, tiny_model, tiny_rows, method, quant, kind):
    options = alternating(method, quant, 3)
    run = Run(tmp_path, tiny_model, tiny_rows, method, quant, options=options, alpha=8)
    record = run.init()
    made = made_of(tiny_model, run.init_spec)
    read = factors.load(run.start, read_json(run.model))
    assert list(made.A) == module_names(tiny_model) and set(read.A) == set(read.B) == set(made.A)
    for name in made.A:
        assert torch.equal(read.A[name], made.A[name]) and torch.equal(read.B[name], made.B[name])
        if kind is None:
            assert read.offset_product(name) is None
        else:
            assert torch.equal(read.offset_product(name), made.offset_product(name))
        assert read.scaling(name) == 2
    assert (read.offset, read.rank, read.alpha, read.rslora) == (kind, 4, 8, False)
    assert (run.start / factors.OFFSET).is_file() == (kind == "own")
    assert record["spec"] == run.init_spec and set(record["modules"]) == set(made.A)


def test_the_record_shows_that_the_method_happened(tmp_path, tiny_model, tiny_rows):
    """Pitfall 11 (docs/pitfalls.md): norms of A, B and offset differ from plain LoRA's."""
    records = {m: Run(tmp_path / m, tiny_model, tiny_rows, m).init() for m in ("lora", "pissa", "milora")}
    assert records["lora"]["norm_B"] == 0 == records["lora"]["norm_offset"]
    assert records["pissa"]["norm_offset"] > records["milora"]["norm_offset"] > 0
    assert all(record["equality_error"] < 1e-6 for record in records.values())


def test_the_factors_are_put_on_a_model_by_peft(tmp_path, tiny_model, tiny_rows):
    """As they are: PEFT does not decompose again (pitfall 1, docs/pitfalls.md)."""
    run = Run(tmp_path, tiny_model, tiny_rows, "pissa", alpha=8)
    run.init()
    base = load_base(tiny_model)
    kept = {name: p.clone() for name, p in base.named_parameters()}
    model = attach(base, run.start)
    read = load_file(run.start / factors.FACTORS)
    for name in module_names(tiny_model):
        layer = model.base_model.model.get_submodule(name)
        assert torch.equal(layer.lora_A["default"].weight, read[f"base_model.model.{name}.lora_A.weight"])
        assert torch.equal(layer.base_layer.weight, kept[f"{name}.weight"])
        assert layer.scaling["default"] == 2


def test_factors_of_another_model_are_refused(tmp_path, tiny_model, tiny_rows):
    run = Run(tmp_path, tiny_model, tiny_rows, "lora", "nf4")
    run.init()
    other = {**read_json(run.model), "fingerprint": "0" * 64, "name": "other"}
    with pytest.raises(UserError, match="of another model.*other 000000"):
        factors.load(run.start, other)


def test_a_start_that_misses_the_weight_is_refused(monkeypatch):
    """The gate itself: a method whose offset is not its factors."""
    from pissa_repro.methods import Start, pissa

    honest = pissa.start

    def wrong(weight, setting):
        made = honest(weight, setting)
        return Start(made.A, made.B, offset=(1.01 * made.A, made.B))

    monkeypatch.setattr(pissa, "start", wrong)
    with pytest.raises(UserError, match=r"misses W by"):
        start_of("m", decaying(32, 32), spec_of("pissa", "none", 4, 4))


def test_the_weights_are_walked_in_natural_order_and_float32(tiny_model):
    walked = dict(checkpoint.targets(tiny_model, LLAMA))
    assert len(walked) == 14 and all(w.dtype == torch.float32 for w in walked.values())
    assert next(iter(walked)).startswith("model.layers.0.") and list(walked)[-1].startswith("model.layers.1.")


def one_weight(folder, weight):
    """A model of one matrix, and its spec."""
    name = "model.layers.0.mlp.up_proj"
    return save_weights(folder, {name: weight}), {**spec_of("pissa", "none", 4, 4), "target_modules": ["up_proj"]}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_refused_with_its_name(tmp_path, value):
    weight = decaying(48, 64)
    weight[7, 9] = value
    folder, spec = one_weight(tmp_path / "model", weight)
    with pytest.raises(UserError, match=r"model\.layers\.0\.mlp\.up_proj\.weight in .* NaN or infinite"):
        start_model(str(folder), [spec])


@pytest.mark.parametrize("rank", [-1, 0, 49])
def test_a_rank_that_a_weight_cannot_have_is_refused_before_any_weight_is_read(tmp_path, rank):
    folder, spec = one_weight(tmp_path / "model", torch.full((48, 64), float("nan")))
    with pytest.raises(UserError, match=rf"rank {rank}: model\.layers\.0\.mlp\.up_proj \(48, 64\) has ranks from 1 to"):
        start_model(str(folder), [spec, {**spec, "rank": rank}])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_stored_in_half_precision_start_as_the_same_values_in_float32(tmp_path, dtype):
    half = decaying(48, 64).to(dtype)
    made = []
    for stored in (half, half.float()):
        folder, spec = one_weight(tmp_path / str(stored.dtype), stored)
        made.append(made_of(folder, {**spec, "quant": "nf4", "options": {"svd": "fast", "alternations": 2}}))
    for side in ("A", "B"):
        (first,), (second,) = (getattr(one, side).values() for one in made)
        assert first.dtype == torch.float32 and torch.equal(first, second)


def test_the_record_says_how_much_of_the_energy_is_taken_out_and_at_most_could_be():
    weight = decaying(48, 64)
    energy = torch.linalg.svdvals(weight.double()).square()
    _, facts = start_of("m", weight, spec_of("pissa", "none", 8, 16))
    assert facts["captured"] == pytest.approx((energy[:8].sum() / energy.sum()).item(), rel=1e-4)
    assert facts["excess"] == 0 and facts["captured_bound"] == pytest.approx(facts["captured"], abs=1e-12)


@pytest.mark.parametrize("method", ["milora", "middle"])
def test_triples_that_are_not_the_largest_have_no_bound(method):
    _, facts = start_of("m", decaying(48, 64), spec_of(method, "none", 8, 16))
    assert facts["excess"] is None and "captured" not in facts


def test_an_approximate_decomposition_has_an_upper_bound_that_holds(monkeypatch):
    """At most what the best rank can take out, which the full SVD says."""
    weight, values = with_values(700, 600, lambda i, n: (1 - 0.6 * i / n) + 2 * i**-0.6)
    found = make.spectrum("m", weight)
    monkeypatch.setattr(found, "principal", lambda rank, solver: spectrum.leading(weight, rank, found.generator()))
    _, facts = start_module("m", found, spec_of("pissa", "none", 64, 64))
    best = (values[:64].square().sum() / values.square().sum()).item()
    assert facts["excess"] > 1e-5
    assert facts["captured"] < best < facts["captured_bound"] < facts["captured"] + 0.01


@pytest.mark.parametrize(("method", "options"), [("lora", {}), ("olora", {}), ("pissa", {"svd": "niter_4"})])
def test_a_start_of_unknown_accuracy_has_no_bound(method, options):
    _, facts = start_of("m", decaying(48, 64), spec_of(method, "none", 8, 8, **options))
    assert facts["excess"] is None and "captured_bound" not in facts


@pytest.mark.parametrize(("method", "quant", "accuracy"), [("pissa", "none", 0.2), ("lora", "nf4", 0.01)])
def test_what_is_missing_of_a_tall_weight_is_estimated_on_a_plain_base_and_summed_on_a_quantized_one(
    method, quant, accuracy
):
    """On a plain base every fourth row is looked at: all of them miss W by rounding only."""
    weight = decaying(1024, 64)
    if quant != "none":
        weight[1] *= 50  # a row that would be left out
    made, facts = start_of("m", weight, spec_of(method, quant, 8, 8))
    base, product = sides(made, weight, 1, quant)
    missing = relative(base.double() + product.double(), weight)
    assert facts["equality_error"] == pytest.approx(missing, rel=accuracy)
