"""One decomposition of a weight serves every rank, method and run, whatever was asked before."""

import threading
import time

import pytest
import torch
from helpers import counted, save_weights
from starting import decaying, spec_of

from pissa_repro.linalg import spectrum
from pissa_repro.starts import make
from pissa_repro.starts.kept import Kept
from pissa_repro.starts.make import start_model

RANKS = [1, 2, 4, 8, 16, 32, 64, 128]
TARGETS = ["q_proj", "up_proj"]
FINGERPRINT = "0123456789abcdef" * 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two layers of two matrices that have rank 128."""
    weights = {f"model.layers.{n}.self_attn.q_proj": decaying(140, 140, n) for n in range(2)}
    weights |= {f"model.layers.{n}.mlp.up_proj": decaying(160, 140, 2 + n) for n in range(2)}
    return save_weights(tmp_path_factory.mktemp("weights") / "model", weights)


@pytest.fixture
def calls(monkeypatch):
    """Every decomposition that is made from now on."""
    return counted(monkeypatch, spectrum, "leading")


def spec(method, quant, rank, **options):
    return {**spec_of(method, quant, rank, rank, **options), "target_modules": TARGETS}


def bits(made):
    """Every factor of a start, by name."""
    tensors = {"A": made.A, "B": made.B, "offset_A": made.offset_A, "offset_B": made.offset_B}
    return {f"{kind}/{name}": t for kind, found in tensors.items() for name, t in (found or {}).items()}


def same(first, second):
    first, second = bits(first), bits(second)
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.fixture(scope="module")
def large():
    """A weight that is decomposed by the fast solver also for 128 ranks: a power law on noise."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(side, 200, generator=generator) for side in (1300, 1280))
    noise = torch.randn(1300, 1280, generator=generator)
    return left * torch.arange(1, 201) ** -0.8 @ right.mT + noise


def test_the_first_triples_do_not_depend_on_the_rank_or_on_what_was_asked_before(large, calls):
    one, other = make.spectrum("m", large), make.spectrum("m", large)
    other.minor(4)
    many, few = one.principal(64), other.principal(8)
    assert 0 < many.excess <= spectrum.TOLERANCE
    assert torch.equal(few.U, many.U[:, :8]) and torch.equal(few.S, many.S[:8]) and torch.equal(few.Vh, many.Vh[:8])
    assert torch.equal(one.principal(8).wide, few.wide)
    assert len(calls) == 2


def test_one_decomposition_serves_all_ranks_up_to_128_and_another_each_power_of_two_above(calls):
    found = make.spectrum("m", decaying(600, 600))
    for rank in (3, 128, 1, 64):
        assert found.principal(rank).S.shape == (rank,)
    assert len(calls) == 1
    for rank, wanted in ((129, 2), (256, 2), (200, 2), (257, 3), (500, 3)):
        assert found.principal(rank).S.shape == (rank,) and len(calls) == wanted


def test_each_solver_and_each_niter_has_its_own(calls):
    found = make.spectrum("m", decaying(200, 160))
    products = [found.principal(8, solver) for solver in ("fast", "exact", "niter_1", "niter_4")]
    assert len(calls) == 1
    assert products[2].excess is None and not torch.equal(products[2].U, products[3].U)


def test_a_model_is_decomposed_once_for_all_ranks_with_and_without_quantization(folder, calls):
    specs = [spec("pissa", quant, rank) for quant in ("none", "nf4") for rank in RANKS]
    made = start_model(str(folder), specs)
    assert len(calls) == 4
    for (plain, _), (quantized, _) in zip(made[:8], made[8:], strict=True):
        assert same(plain, quantized)


@pytest.mark.parametrize(
    ("method", "quant", "options"),
    [("pissa", "none", {}), ("pissa", "nf4", {"alternations": 3}), ("loftq", "nf4", {"alternations": 2}),
     ("milora", "none", {}), ("lora", "nf4", {}), ("pissa", "none", {"svd": "niter_2"})],
)  # fmt: skip
def test_a_start_among_others_has_the_bits_of_the_start_alone(folder, method, quant, options):
    others = [spec("loftq", "nf4-b32", 16), spec("pissa", "nf4", 32, alternations=2), spec("middle", "none", 8)]
    tested = spec(method, quant, 8, **options)
    among = start_model(str(folder), [*others, tested])[-1]
    alone = start_model(str(folder), [tested])[0]
    assert same(among[0], alone[0]) and among[1] == alone[1]


def test_loftq_decomposes_each_error_once_for_all_ranks(folder, calls):
    specs = [spec("loftq", quant, rank) for quant in ("nf4", "int8") for rank in (2, 8, 128)]
    start_model(str(folder), specs)
    assert len(calls) == 2 * 4


def test_every_alternation_is_one_decomposition_more(folder, calls):
    for turns in (1, 2, 5):
        calls.clear()
        start_model(str(folder), [spec("pissa", "nf4", 8, alternations=turns)])
        assert len(calls) == 4 * turns


def test_a_second_run_decomposes_nothing_and_has_the_same_bits(folder, tmp_path, monkeypatch):
    specs = [spec("pissa", "none", 8), spec("pissa", "nf4", 4, alternations=2), spec("loftq", "nf4", 4)]
    specs += [spec("milora", "none", 8), spec("middle", "none", 4)]
    fresh = start_model(str(folder), specs)
    first = start_model(str(folder), specs, Kept(tmp_path, FINGERPRINT))
    calls = counted(monkeypatch, spectrum, "exact")
    second = start_model(str(folder), specs, Kept(tmp_path, FINGERPRINT))
    assert len(calls) == 4  # the second alternation of QPiSSA
    for one, two, three in zip(fresh, first, second, strict=True):
        assert same(one[0], two[0]) and same(one[0], three[0]) and one[1] == two[1] == three[1]


def test_other_ranks_and_methods_find_what_a_run_before_has_left(folder, tmp_path, calls):
    start_model(str(folder), [spec("pissa", "none", 2)], Kept(tmp_path, FINGERPRINT))
    calls.clear()
    later = [spec("pissa", "nf4", rank) for rank in RANKS]
    start_model(str(folder), later, Kept(tmp_path, FINGERPRINT))
    assert not calls


def test_another_model_is_decomposed_again(folder, tmp_path, calls):
    for fingerprint in (FINGERPRINT, FINGERPRINT, "f" * 64):
        start_model(str(folder), [spec("pissa", "none", 2)], Kept(tmp_path, fingerprint))
    assert len(calls) == 8


def test_a_killed_run_goes_on_with_the_next_matrix(folder, tmp_path, monkeypatch):
    honest, done = spectrum.leading, []

    def killed(*args):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(args)
        return honest(*args)

    specs = [spec("pissa", "none", 2)]
    monkeypatch.setattr(spectrum, "leading", killed)
    with pytest.raises(KeyboardInterrupt):
        start_model(str(folder), specs, Kept(tmp_path, FINGERPRINT))
    monkeypatch.setattr(spectrum, "leading", honest)
    calls = counted(monkeypatch, spectrum, "leading")
    ((made, _),) = start_model(str(folder), specs, Kept(tmp_path, FINGERPRINT))
    assert len(calls) == 2
    assert same(made, start_model(str(folder), specs)[0][0])


def test_two_jobs_at_once_decompose_once(tmp_path):
    weight, computed, found = decaying(60, 40), [], []

    def compute():
        computed.append(1)
        time.sleep(0.2)
        return spectrum.exact(weight, 0, 4)

    def job():
        keep = Kept(tmp_path, FINGERPRINT).of("layers.0.q_proj", torch.device("cpu"))
        found.append(keep("fast-160", compute))

    jobs = [threading.Thread(target=job) for _ in range(3)]
    for one in jobs:
        one.start()
    for one in jobs:
        one.join()
    assert len(computed) == 1
    assert all(torch.equal(one.U, found[0].U) for one in found) and len(found) == 3


def test_what_is_kept_says_how_exact_it_is(tmp_path):
    weight = decaying(60, 40)
    keep = Kept(tmp_path, FINGERPRINT).of("m", torch.device("cpu"))
    for excess in (0.0, 1.5e-7, None):
        u, s, vh = torch.linalg.svd(weight, full_matrices=False)
        made = spectrum.Triples(u, s, vh, excess)
        assert keep(f"part-{excess}", lambda made=made: made).excess == excess
        assert keep(f"part-{excess}", lambda: pytest.fail("computed again")).excess == excess


@pytest.mark.parametrize(
    ("part", "first_of"),
    [("minor", lambda rank: 150 - rank), ("middle", lambda rank: (150 - rank) // 2)],
    ids=["milora", "middle"],
)
def test_one_decomposition_serves_every_rank_of_the_other_slices_too(monkeypatch, part, first_of):
    weight, calls = decaying(160, 150), counted(monkeypatch, spectrum, "exact")
    found = make.spectrum("m", weight)
    parts = [getattr(found, part)(rank) for rank in (1, 2, 4, 8, 16, 32, 64, 128)]
    assert len(calls) == 1
    values = torch.linalg.svdvals(weight.double())
    for made, rank in zip(parts, (1, 2, 4, 8, 16, 32, 64, 128), strict=True):
        first = first_of(rank)
        assert torch.allclose(made.S.double(), values[first : first + rank], rtol=1e-4)
