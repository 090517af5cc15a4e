"""Every method's file keeps the contract of methods.Method. The files are found by scanning, and none is named here.

The mathematics of single methods is in test_method_<name>.py.
"""

import subprocess
import sys

import pytest
import torch
from helpers import decaying, sides, spec_of, start_of

from pissa_repro import methods, quantizers
from pissa_repro.model import factors
from pissa_repro.plan import config
from pissa_repro.runtime.errors import UserError
from pissa_repro.starts.make import generator

BY_FILE = {}
for name in quantizers.names():
    BY_FILE.setdefault(quantizers.find(name).file, []).append(name)
QUANTS = sorted({name for variants in BY_FILE.values() for name in (variants[0], variants[-1])})
QUANTIZED = next(name for name in QUANTS if name != "none")
PAIRS = [(m, q) for m in methods.names() for q in QUANTS if not methods.refusal(m, q)]
WITH_FACTORS = [pair for pair in PAIRS if methods.has_factors(pair[0])]
ON_QUANTIZED = [pair for pair in WITH_FACTORS if pair[1] != "none"]
ALTERNATING = [pair for pair in ON_QUANTIZED if "alternations" in methods.load(pair[0]).QUANTIZED_OPTIONS]
RANK = 6
SVDS = ("slow", "niter", "niter_-1", 5, True)  # none of them is a solver
WRONG = {bool: (0, 1, "5"), float: (-1.0, True, "5", float("nan")), int: (0, True, "5", 1.5)}  # by the default's kind
SHAPES = [(64, 64), (48, 96), (96, 48)]
SCALINGS = {"s=1": (RANK, False), "s=2": (2 * RANK, False), "rslora": (RANK, True)}


def names_of(pairs):
    return [f"{method}-{quant}" for method, quant in pairs]


def start(method, quant, weight, seed=0, alpha=RANK, rslora=False, module="layers.0.q_proj", rank=RANK, **options):
    return start_of(module, weight, spec_of(method, quant, rank, alpha, rslora, seed, **options))


def test_scan_finds_the_files_and_all_are_whole():
    assert list(methods.names()) == sorted(methods.names()) and len(methods.names()) > 3
    methods.PLUGINS.check()
    assert all(methods.PLUGINS.lines().values())


@pytest.mark.parametrize("name", methods.names())
def test_a_method_has_its_names(name):
    assert methods.display(name, "none") and methods.display(name, QUANTIZED)


@pytest.mark.parametrize("name", methods.names())
def test_a_refusal_is_a_sentence_and_leaves_a_quantization_to_use(name):
    refusals = [methods.refusal(name, quant) for quant in quantizers.names()]
    assert None in refusals
    assert all(reason is None or len(reason) > 20 for reason in refusals)


def values_of(key, default, choices):
    """Other values that an option may have, and such that it may not."""
    if key == "svd":
        return ("exact", "niter_4"), SVDS
    if isinstance(default, str):
        return choices[key], ("no such word", 1, True)
    if isinstance(default, bool):
        return (not default,), (0, "true", 1.5)
    return ((default,), (-1.0, True, "0.5")) if isinstance(default, float) else ((default + 3,), (0, True, "5", 1.5))


@pytest.mark.parametrize("name", methods.names())
def test_options_default_change_and_refuse(name):
    method = methods.load(name)
    declared = dict(method.OPTIONS) | dict(method.QUANTIZED_OPTIONS)
    assert methods.options(name, QUANTIZED, {}, "here") == declared
    assert methods.options(name, "none", {}, "here") == method.OPTIONS
    assert methods.training_options(name, {}) == method.TRAINING_OPTIONS
    for key, value in (declared | dict(method.TRAINING_OPTIONS)).items():
        others, wrongs = values_of(key, value, method.CHOICES)
        for other in others:
            found = methods.options(name, QUANTIZED, {key: other}, "here") | methods.training_options(
                name, {key: other}
            )
            assert found[key] == other
        for wrong in wrongs:
            with pytest.raises(UserError, match=f"here.*{key}"):
                methods.options(name, QUANTIZED, {key: wrong}, "here")
    with pytest.raises(UserError, match="here.*no_such_option"):
        methods.options(name, QUANTIZED, {"no_such_option": 1}, "here")


def _values(method, key, value):
    """Values that an option may have, and such that it may not."""
    if key == "svd":
        return ("exact", "niter_4"), SVDS
    if key in method.CHOICES:
        return method.CHOICES[key], ("", "no_such_word", 5, True)
    return (not value if isinstance(value, bool) else value + 3,), WRONG[type(value)]


@pytest.mark.parametrize("name", [name for name in methods.names() if methods.has_factors(name)])
def test_a_method_says_whether_its_factors_are_parts_of_the_weight(name):
    """TAKES is there where the base is left without the factors, and nowhere else."""
    quant = next(quant for quant in QUANTS if not methods.refusal(name, quant))
    made, _ = start(name, quant, decaying(48, 48))
    takes = methods.load(name).TAKES
    assert (made.offset == "start") == (takes is not None) and (takes is None or "W" in takes.split())


def test_no_torch_before_a_start_is_made():
    code = (
        "import sys\nfrom pissa_repro import methods\nfrom pissa_repro.plan import config, sweep\n"
        "[methods.load(name) for name in methods.names()]\n"
        "print(sorted({'torch', 'transformers', 'bitsandbytes', 'numpy'} & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", cwd=config.ROOT, check=True
    )
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
        assert made.A.shape[1] == columns and made.B.shape == (rows, len(made.A))
        for tensor in (*_parts(made), *(made.offset if isinstance(made.offset, tuple) else ())):
            assert tensor.dtype == torch.float32 and tensor.isfinite().all()
        assert made.core is None or set(made.core.shape) == {len(made.A)}
        base, product = sides(made, weight, s, quant)
        missing = (weight.double() - base.double() - product.double()).norm() / weight.norm()
        assert facts["equality_error"] == pytest.approx(missing.item(), rel=1e-2, abs=1e-7)
        if quant == "none":
            assert missing < 1e-6 or methods.load(method).MOVES


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize(("method", "quant"), ON_QUANTIZED, ids=names_of(ON_QUANTIZED))
def test_on_a_quantized_base_no_more_is_missing_than_the_quantizers_residue(method, quant, scaling):
    """With sBA taken out, the rest of W is quantize's residue of it; what is chosen later can only fit better."""
    alpha, rslora = SCALINGS[scaling]
    s = factors.scaling(alpha, RANK, rslora)
    weight = decaying(64, 96)
    made, _ = start(method, quant, weight, alpha=alpha, rslora=rslora)
    base, product = sides(made, weight, s, quant)
    missing = weight - base - product
    rest = weight if made.taken is None else weight - s * made.taken[1] @ made.taken[0]
    residue = rest - quantizers.roundtrip(rest, quant)
    if not methods.load(method).MOVES:
        assert 0 < missing.norm() <= residue.norm() * (1 + 1e-5)
    if made.offset == "start" or (product.norm() == 0 and made.taken is None):
        assert torch.allclose(missing, residue, atol=1e-6 * rest.abs().max().item())


@pytest.mark.parametrize("turns", [1, 3])
@pytest.mark.parametrize(("method", "quant"), ALTERNATING, ids=names_of(ALTERNATING))
def test_a_method_that_alternates_is_no_worse_than_plain_quantization(method, quant, turns):
    weight = decaying(64, 96)
    made, _ = start(method, quant, weight, alternations=turns)
    base, product = sides(made, weight, 1.0, quant)
    assert (weight - base - product).norm() < (weight - quantizers.roundtrip(weight, quant)).norm()


@pytest.mark.parametrize(("method", "quant"), WITH_FACTORS, ids=names_of(WITH_FACTORS))
@pytest.mark.parametrize("beyond", [False, True])
def test_a_rank_that_a_weight_cannot_have_is_refused(method, quant, beyond):
    most = methods.load(method).largest_rank(48, 96)
    rank = most + 1 if beyond else 0
    with pytest.raises(UserError, match=rf"rank {rank}: layers.0.q_proj .* ranks from 1 to {most}"):
        start(method, quant, decaying(48, 96), alpha=1, rank=rank)


@pytest.mark.parametrize(("method", "quant"), WITH_FACTORS, ids=names_of(WITH_FACTORS))
@pytest.mark.parametrize("largest", [False, True])
def test_the_smallest_and_the_largest_rank_are_possible(method, quant, largest):
    rank = methods.load(method).largest_rank(48, 96) if largest else 1
    made, _ = start(method, quant, decaying(48, 96), alpha=1, rank=rank)
    assert rank <= len(made.A) <= 48 and made.A.shape[1] == 96 and made.B.shape == (48, len(made.A))


@pytest.mark.parametrize(("method", "quant"), WITH_FACTORS, ids=names_of(WITH_FACTORS))
def test_the_same_seed_makes_the_same_bits(method, quant):
    weight = decaying(48, 96)
    first, second = start(method, quant, weight)[0], start(method, quant, weight)[0]
    assert _same(first, second)
    other_seed, other_module = start(method, quant, weight, seed=1)[0], start(method, quant, weight, module="k")[0]
    random = methods.load(method).RANDOM
    assert _same(first, other_seed) != random
    assert _same(first, other_module) != random


def _parts(made):
    return [part for part in (made.A, made.B, made.core) if part is not None]


def _same(one, other):
    return all(torch.equal(mine, its) for mine, its in zip(_parts(one), _parts(other), strict=True))


def test_random_numbers_depend_on_seed_and_module_only():
    draw = [torch.rand(4, generator=generator(*key)) for key in ((0, "a"), (0, "a"), (0, "b"), (1, "a"))]
    assert torch.equal(draw[0], draw[1])
    assert not torch.equal(draw[0], draw[2]) and not torch.equal(draw[0], draw[3])
