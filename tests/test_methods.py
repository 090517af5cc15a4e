"""Every method's file keeps the contract of docs/add_a_baseline.md. The files are found by scanning."""

import subprocess
import sys

import pytest
import torch
from helpers import decaying, relative, sides, spec_of, start_of

from pissa_repro import methods, quantizers
from pissa_repro.model import factors
from pissa_repro.plan import config, sweep
from pissa_repro.runtime.errors import UserError
from pissa_repro.starts.make import generator

QUANTS = ("none", "nf4", "nf4-b128-dq", "int8")  # one of each kind; test_quantize.py has all of them
PAIRS = [(m, q) for m in methods.names() for q in QUANTS if not methods.refusal(m, q)]
WITH_FACTORS = [pair for pair in PAIRS if methods.has_factors(pair[0])]
RANK = 6
SVDS = ("slow", "niter", "niter_-1", 5, True)  # none of them is a solver
SHAPES = [(64, 64), (48, 96), (96, 48)]
SCALINGS = {"s=1": (RANK, False), "s=2": (2 * RANK, False), "rslora": (RANK, True)}


def names_of(pairs):
    return [f"{method}-{quant}" for method, quant in pairs]


def start(method, quant, weight, seed=0, alpha=RANK, rslora=False, module="layers.0.q_proj", **options):
    spec = spec_of(method, quant, RANK, alpha, rslora, seed, **options)
    return start_of(module, weight, spec)


def test_scan_finds_the_files_and_the_methods_of_the_design():
    assert methods.names() == sorted(methods.names())
    assert {"full", "lora", "loftq", "middle", "milora", "olora", "pissa"} <= set(methods.names())


@pytest.mark.parametrize("name", methods.names())
def test_a_method_declares_its_names_and_its_randomness(name):
    method = methods.load(name)
    assert method.DISPLAY and method.QUANTIZED_DISPLAY
    assert isinstance(method.RANDOM, bool)
    assert method.__doc__
    assert callable(getattr(method, "start", None)) == methods.has_factors(name)


@pytest.mark.parametrize("name", methods.names())
def test_a_refusal_is_a_sentence_and_leaves_a_quantization_to_use(name):
    refusals = [methods.refusal(name, quant) for quant in quantizers.names()]
    assert None in refusals
    assert all(reason is None or len(reason) > 20 for reason in refusals)


def test_the_refused_pairs_are_those_of_the_design():
    refused = {(m, q) for m in ("full", "lora", "loftq", "pissa") for q in quantizers.names() if methods.refusal(m, q)}
    assert refused == {("full", quant) for quant in quantizers.names() if quant != "none"} | {("loftq", "none")}


@pytest.mark.parametrize("name", methods.names())
def test_options_default_change_and_refuse(name):
    method = methods.load(name)
    declared = getattr(method, "OPTIONS", {}) | getattr(method, "QUANTIZED_OPTIONS", {})
    assert methods.options(name, "nf4", {}, "here") == declared
    assert methods.options(name, "none", {}, "here") == getattr(method, "OPTIONS", {})
    for key, value in declared.items():
        others, wrongs = (("exact", "niter_4"), SVDS) if key == "svd" else ((value + 3,), (0, True, "5", 1.5))
        for other in others:
            assert methods.options(name, "nf4", {key: other}, "here")[key] == other
        for wrong in wrongs:
            with pytest.raises(UserError, match=f"here.*{key}"):
                methods.options(name, "nf4", {key: wrong}, "here")
    with pytest.raises(UserError, match="here.*no_such_option"):
        methods.options(name, "nf4", {"no_such_option": 1}, "here")


def test_no_torch_before_a_start_is_made():
    code = (
        "import sys\nfrom pissa_repro import methods\nfrom pissa_repro.plan import config, sweep\n"
        "[methods.load(name) for name in methods.names()]\n"
        "print(sorted({'torch', 'transformers', 'bitsandbytes', 'numpy'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=config.ROOT, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize(("method", "quant"), WITH_FACTORS, ids=names_of(WITH_FACTORS))
def test_shapes_dtypes_and_equality(method, quant, scaling):
    alpha, rslora = SCALINGS[scaling]
    s = factors.scaling(alpha, RANK, rslora)
    for rows, columns in SHAPES:
        weight = decaying(rows, columns)
        kept = weight.clone()
        made, facts = start(method, quant, weight, alpha=alpha, rslora=rslora)
        assert torch.equal(weight, kept), "start changed the weight"
        assert made.A.shape == (RANK, columns) and made.B.shape == (rows, RANK)
        for tensor in (made.A, made.B, *(made.offset if isinstance(made.offset, tuple) else ())):
            assert tensor.dtype == torch.float32 and tensor.isfinite().all()
        base, product = sides(made, weight, s, quant)
        missing = (weight.double() - base.double() - product.double()).norm() / weight.norm()
        assert facts["equality_error"] == pytest.approx(missing.item(), rel=1e-2, abs=1e-7)
        if quant == "none":
            assert missing < 1e-6


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize(("method", "quant"), [p for p in WITH_FACTORS if p[1] != "none"], ids=lambda value: str(value))
def test_on_a_quantized_base_what_is_missing_is_the_quantizers_residue(method, quant, scaling):
    """With offset = sBA the rest of W is quantize's residue; with LoftQ, what rank r cannot hold of it."""
    alpha, rslora = SCALINGS[scaling]
    s = factors.scaling(alpha, RANK, rslora)
    weight = decaying(64, 96)
    made, facts = start(method, quant, weight, alpha=alpha, rslora=rslora)
    base, product = sides(made, weight, s, quant)
    missing = weight - base - product
    if made.offset == "start":
        residue = (weight - product) - quantizers.roundtrip(weight - product, quant)
        assert torch.allclose(missing, residue, atol=1e-6 * weight.abs().max().item())
    elif method == "loftq":
        tail = torch.linalg.svdvals((weight - base).double())[RANK:]
        assert torch.allclose(torch.linalg.svdvals(missing.double())[: len(tail)], tail, rtol=1e-3, atol=1e-6)
    else:
        assert product.norm() == 0
        assert torch.equal(missing, weight - quantizers.roundtrip(weight, quant))
    # OLoRA's factors do not shrink with s, so its base grows with s, and so does the base's residue
    bound = (0.02 if quant == "int8" else 0.12) * (2 * s if method == "olora" else 1)
    assert 0 < facts["equality_error"] < bound


@pytest.mark.parametrize(("method", "quant"), WITH_FACTORS, ids=names_of(WITH_FACTORS))
def test_the_same_seed_makes_the_same_bits(method, quant):
    weight = decaying(48, 96)
    first, second = start(method, quant, weight)[0], start(method, quant, weight)[0]
    assert torch.equal(first.A, second.A) and torch.equal(first.B, second.B)
    other_seed, other_module = start(method, quant, weight, seed=1)[0], start(method, quant, weight, module="k")[0]
    random = methods.load(method).RANDOM
    assert torch.equal(first.A, other_seed.A) != random
    assert torch.equal(first.A, other_module.A) != random


def test_random_numbers_depend_on_seed_and_module_only():
    draw = [torch.rand(4, generator=generator(*key)) for key in ((0, "a"), (0, "a"), (0, "b"), (1, "a"))]
    assert torch.equal(draw[0], draw[1])
    assert not torch.equal(draw[0], draw[2]) and not torch.equal(draw[0], draw[3])


def test_lora_is_kaiming_uniform_and_starts_at_zero():
    made, _ = start("lora", "none", decaying(48, 10_000))
    bound = 10_000**-0.5
    assert made.B.count_nonzero() == 0 and made.offset is None
    assert made.A.abs().max() <= bound
    assert made.A.std().item() == pytest.approx(bound / 3**0.5, rel=0.01)


@pytest.mark.parametrize(("method", "first"), [("pissa", 0), ("middle", (48 - RANK) // 2), ("milora", 48 - RANK)])
def test_pissa_takes_the_largest_triples_milora_the_smallest_and_middle_those_between(method, first):
    weight = decaying(48, 96)
    made, _ = start(method, "none", weight)
    values = torch.linalg.svdvals(weight.double())
    taken = torch.linalg.svdvals(made.B.double() @ made.A.double())[:RANK]
    assert torch.allclose(taken, values[first : first + RANK], rtol=1e-4)
    rest = torch.linalg.svdvals(weight.double() - made.B.double() @ made.A.double())[: 48 - RANK]
    kept = torch.cat((values[:first], values[first + RANK :]))
    assert torch.allclose(rest, kept, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["pissa", "middle", "milora"])
def test_both_factors_carry_the_root_of_the_singular_values(method):
    made, _ = start(method, "none", decaying(48, 96), alpha=2 * RANK)
    gram = made.A @ made.A.T
    assert torch.allclose(gram, made.B.T @ made.B, atol=1e-5)
    assert torch.allclose(gram, torch.diag(gram.diag()), atol=1e-5)


def pissa_as_released(weight, rank, turns):
    """R <- W; T times: A, B <- split of R; base <- nf4(W - BA); R <- W - base (utils/init_qpissa.py)."""
    rest = weight
    for _ in range(turns):
        u, s, vh = torch.linalg.svd(rest, full_matrices=False)
        product = (u[:, :rank] * s[:rank]) @ vh[:rank]
        base = quantizers.roundtrip(weight - product, "nf4")
        rest = weight - base
    return base, product


def pissa_as_printed(weight, rank, turns):
    """Algorithm 1: the base is made from the product of the repetition before."""
    u, s, vh = torch.linalg.svd(weight, full_matrices=False)
    product = (u[:, :rank] * s[:rank]) @ vh[:rank]
    base = quantizers.roundtrip(weight - product, "nf4")
    for _ in range(1, turns):
        u, s, vh = torch.linalg.svd(weight - base, full_matrices=False)
        base, product = quantizers.roundtrip(weight - product, "nf4"), (u[:, :rank] * s[:rank]) @ vh[:rank]
    return base, product


@pytest.mark.parametrize("turns", [1, 2, 5])
@pytest.mark.parametrize("alpha", [RANK, 2 * RANK])
def test_pissa_alternates_as_the_released_code_does(turns, alpha):
    weight = decaying(64, 96)
    made, _ = start("pissa", "nf4", weight, alpha=alpha, alternations=turns)
    base, product = sides(made, weight, alpha / RANK, "nf4")
    wanted_base, wanted_product = pissa_as_released(weight, RANK, turns)
    assert relative(product, wanted_product) < 1e-5
    # one code may flip where W - BA, rounded otherwise, lies between two levels
    assert (base - wanted_base).abs().gt(1e-5).float().mean() < 1e-3
    if turns > 2:  # the first two turns of both are the same or nearly so
        assert relative(product, pissa_as_printed(weight, RANK, turns)[1]) > 1e-3


@pytest.mark.parametrize("turns", [1, 2, 5])
@pytest.mark.parametrize("alpha", [RANK, 2 * RANK])
def test_loftq_alternates_as_in_its_paper_for_every_scaling(turns, alpha):
    weight = decaying(64, 96)
    made, _ = start("loftq", "nf4", weight, alpha=alpha, alternations=turns)
    product = torch.zeros_like(weight)
    for _ in range(turns):
        wanted_base = quantizers.roundtrip(weight - product, "nf4")
        u, s, vh = torch.linalg.svd(weight - wanted_base, full_matrices=False)
        product = (u[:, :RANK] * s[:RANK]) @ vh[:RANK]
    base, found = sides(made, weight, alpha / RANK, "nf4")
    assert (base - wanted_base).abs().gt(1e-5).float().mean() < 1e-3
    assert relative(found, product) < 2e-2 if turns > 1 else relative(found, product) < 1e-5
    assert (made.offset is None) == (turns == 1)


def test_alternations_do_nothing_on_a_plain_base():
    """The config's pissa has T = 5; on a plain base it is the same start, and its spec has no T."""
    assert methods.options("pissa", "none", {"alternations": 5}, "here") == {"svd": "fast"}
    assert methods.options("pissa", "nf4", {"alternations": 5}, "here") == {"svd": "fast", "alternations": 5}


def test_versions_of_all_stages_are_whole_numbers():
    assert all(isinstance(v, int) and v >= 1 for v in sweep.STAGE_VERSION.values())
