"""Every method's file keeps the contract of methods.Method. The files are found by scanning, and none is named here.

The mathematics of single methods is in test_method_<name>.py.
"""

import subprocess
import sys

import pytest
import torch
from promises import CHECKS, RANK, SCALINGS, start
from starting import decaying, sides

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
FEW = [pair for pair in WITH_FACTORS if pair[1] in ("none", QUANTIZED)]
ON_QUANTIZED = [pair for pair in WITH_FACTORS if pair[1] != "none"]
ALTERNATING = [pair for pair in ON_QUANTIZED if "alternations" in methods.load(pair[0]).QUANTIZED_OPTIONS]
SVDS = ("slow", "niter", "niter_-1", 5, True)  # none of them is a solver


def names_of(pairs):
    return [f"{method}-{quant}" for method, quant in pairs]


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
    return (
        ((default,), (-1.0, True, "0.5", float("nan")))
        if isinstance(default, float)
        else ((default + 3,), (0, True, "5", 1.5))
    )


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


@pytest.mark.parametrize("promise", CHECKS)
@pytest.mark.parametrize(("method", "quant"), FEW, ids=names_of(FEW))
def test_a_method_keeps_its_promises(method, quant, promise):
    """On a plain base and on a quantized one. Methods that break one are in wrong_methods.py."""
    CHECKS[promise](method, quant)


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


@pytest.mark.parametrize(("method", "quant"), WITH_FACTORS, ids=names_of(WITH_FACTORS))
def test_no_more_is_missing_than_the_quantizers_residue_and_it_is_recorded(method, quant):
    """On every base and for every s. With s B C A taken out, the rest of W is what the quantizer leaves of it; what is
    chosen later can only fit better.
    """
    weight = decaying(64, 96)
    for alpha, rslora in SCALINGS:
        s = factors.scaling(alpha, RANK, rslora)
        made, facts = start(method, quant, weight, alpha=alpha, rslora=rslora)
        base, product = sides(made, weight, s, quant)
        missing = weight.double() - base.double() - product.double()
        recorded = facts["equality_error"] * weight.norm()
        assert recorded == pytest.approx(missing.norm().item(), rel=1e-2, abs=1e-6)
        rest = weight if made.taken is None else weight - s * made.taken[1] @ made.taken[0]
        residue = rest - quantizers.roundtrip(rest, quant)
        if quant != "none" and not methods.load(method).MOVES:
            assert 0 < missing.norm() <= residue.norm() * (1 + 1e-5)
        if quant != "none" and (made.offset == "start" or (product.norm() == 0 and made.taken is None)):
            assert torch.allclose(missing.float(), residue, atol=1e-6 * rest.abs().max().item())


@pytest.mark.parametrize("turns", [1, 3])
@pytest.mark.parametrize(("method", "quant"), ALTERNATING, ids=names_of(ALTERNATING))
def test_a_method_that_alternates_is_no_worse_than_plain_quantization(method, quant, turns):
    weight = decaying(64, 96)
    made, _ = start(method, quant, weight, alternations=turns)
    base, product = sides(made, weight, 1.0, quant)
    assert (weight - base - product).norm() < (weight - quantizers.roundtrip(weight, quant)).norm()


@pytest.mark.parametrize(("method", "quant"), FEW, ids=names_of(FEW))
@pytest.mark.parametrize("rank", [0, 49])
def test_a_rank_that_a_weight_cannot_have_is_refused(method, quant, rank):
    with pytest.raises(UserError, match=rf"rank {rank}: layers.0.q_proj .* ranks from 1 to 48"):
        start(method, quant, decaying(48, 96), alpha=1, rank=rank)


@pytest.mark.parametrize(("method", "quant"), FEW, ids=names_of(FEW))
@pytest.mark.parametrize("rank", [1, 48])
def test_the_smallest_and_the_largest_rank_are_possible(method, quant, rank):
    made, _ = start(method, quant, decaying(48, 96), alpha=1, rank=rank)
    assert rank <= len(made.A) <= 48 and made.A.shape[1] == 96 and made.B.shape == (48, len(made.A))


def test_random_numbers_depend_on_seed_and_module_only():
    draw = [torch.rand(4, generator=generator(*key)) for key in ((0, "a"), (0, "a"), (0, "b"), (1, "a"))]
    assert torch.equal(draw[0], draw[1])
    assert not torch.equal(draw[0], draw[2]) and not torch.equal(draw[0], draw[3])
