"""What every method's file promises, each as a check of a method by name, on one small weight and without a model.

CHECKS has them in their order: a check may rely on those before it. A method that breaks a promise raises
AssertionError, or UserError where the package itself refuses what the method gives.
"""

import copy
import re

import torch
from quadratic import Quadratic
from starting import decaying, made_up, sides, spec_of, start_of

from pissa_repro import methods, quantizers
from pissa_repro.linalg.spectrum import Spectrum
from pissa_repro.model import factors
from pissa_repro.starts.checked import check
from pissa_repro.starts.make import generator, setting

RANK = 4
SHAPE = (24, 32)  # (out, in); of quantizers' groups the last one is not full
SHAPES = (SHAPE, (32, 24), (32, 32))
SCALINGS = ((RANK, False), (2 * RANK, False), (RANK, True))  # alpha, and whether rank-stabilised
MODULE = "layers.0.q_proj"
ZERO = 1e-6  # of the largest singular value: one that is as small is rounding
TRIPLES = re.compile(r"the r (largest|middle|smallest) singular triples of W")  # in TAKES


def start(method, quant, weight, seed=0, alpha=RANK, rslora=False, module=MODULE, rank=RANK, **options):
    """The start of a weight (out, in), and its facts, on statistics that are made up."""
    return start_of(module, weight, spec_of(method, quant, rank, alpha, rslora, seed, **options))


def parts_of(made):
    return [part for part in (made.A, made.B, made.core) if part is not None]


def summarizes(method):
    """Whether a method has a `summary`, so that its options may give modules ranks of their own."""
    return getattr(methods.load(method).summary, "__func__", None) is not methods.Method.summary


def check_whole(method, quant):
    """Shapes and dtypes of all parts, and no less than the cell's rank."""
    for shape in SHAPES:
        weight = decaying(*shape)
        spectrum, spec = Spectrum(weight, lambda: generator(0, MODULE)), spec_of(method, quant, RANK, RANK)
        made = methods.load(method).start(weight, setting(MODULE, spectrum, spec, made_up(shape)))
        check(MODULE, shape, made, method)
        assert len(made.A) >= RANK, f"{len(made.A)} directions for rank {RANK}"


def check_untouched(method, quant):
    """The weight, its singular triples, which all methods share, and the statistics stay as they were."""
    weight, kept = decaying(*SHAPE), []

    def keep(_, compute):
        kept.append((triples := compute(), copy.deepcopy(triples)))
        return triples

    spectrum = Spectrum(weight, lambda: generator(0, MODULE), keep, name=MODULE)
    statistics = made_up(SHAPE)
    given = setting(MODULE, spectrum, spec_of(method, quant, RANK, RANK), statistics)
    methods.load(method).start(weight, given)
    if summarizes(method):
        methods.load(method).summary(weight, given)
    assert torch.equal(weight, decaying(*SHAPE)), "the weight is another one than before"
    for triples, before in kept:
        for name in ("U", "S", "Vh"):
            assert torch.equal(getattr(triples, name), getattr(before, name)), f"the shared {name} has changed"
    for kind, before in made_up(SHAPE).items():
        assert torch.equal(statistics[kind], before), f"the {kind} has changed"


def check_equality(method, quant):
    """base + s B C A is W on a plain base, unless MOVES says why not; then it is not.

    On a quantized one no more is missing than what the quantizer leaves of the base.
    """
    weight, moves = decaying(*SHAPE), methods.load(method).MOVES
    made, _ = start(method, quant, weight, alpha=2 * RANK)
    base, product = sides(made, weight, 2.0, quant)
    missing = (weight.double() - base.double() - product.double()).norm() / weight.norm()
    if quant == "none":
        assert (missing > ZERO) == bool(moves), f"W is missed by {missing:.1e}, and MOVES is {moves!r}"
    elif not moves:
        rest = weight if made.taken is None else weight - 2 * made.taken[1] @ made.taken[0]
        residue = (rest - quantizers.roundtrip(rest, quant)).norm() / weight.norm()
        assert 0 < missing <= residue * (1 + 1e-5), f"{missing:.1e} is missing, the quantizer leaves {residue:.1e}"


def check_scaling(method, quant):
    """The update s B C A is the same for every s, but where IGNORES_SCALING says that it is not."""
    weight, products = decaying(*SHAPE), []
    for alpha, rslora in SCALINGS:
        made, _ = start(method, quant, weight, alpha=alpha, rslora=rslora)
        products.append(factors.scaling(alpha, RANK, rslora) * made.wide.double() @ made.A.double())
    first, *others = products
    same = all((first - other).norm() <= 1e-5 * first.norm() for other in others)
    assert same != methods.load(method).IGNORES_SCALING, f"the same for every s: {same}"


def check_seed(method, quant):
    """The same seed makes the same bits; another seed or module others where RANDOM. No global random number."""

    def drawn(glob, **changes):
        torch.manual_seed(glob)
        return start(method, quant, decaying(*SHAPE), **changes)[0]

    def same(one, other):
        return all(torch.equal(mine, its) for mine, its in zip(parts_of(one), parts_of(other), strict=True))

    first, random = drawn(0), methods.load(method).RANDOM
    assert same(first, drawn(1)), "the same seed makes other bits"
    for other in (drawn(0, seed=1), drawn(0, module="layers.1.q_proj")):
        assert same(first, other) != random, f"RANDOM is {random}"


def check_takes(method, quant):
    """TAKES is there where the factors are parts of W, and nowhere else; singular triples are those that it names."""
    weight, takes = decaying(*SHAPE), methods.load(method).TAKES
    made, _ = start(method, quant, weight)
    assert (made.offset == "start") == (takes is not None), f"offset is {made.offset!r}, and TAKES is {takes!r}"
    assert takes is None or "W" in takes.split(), "TAKES says nothing of W"
    if named := TRIPLES.fullmatch(takes or ""):
        spare, u, v = min(SHAPE) - RANK, *torch.linalg.svd(weight.double())[::2]
        first = {"largest": 0, "middle": spare // 2, "smallest": spare}[named[1]]
        inside = u[:, first : first + RANK].mT @ made.wide.double() @ made.A.double() @ v[first : first + RANK].mT
        whole = made.wide.double() @ made.A.double()
        assert inside.norm() > (1 - 1e-3) * whole.norm(), f"TAKES is {takes!r}, and others are taken"


def check_rank(method, quant):
    """A step of plain gradient descent on a random quadratic moves all k directions; A and B C then have them all."""
    walk = Quadratic(method, start(method, quant, decaying(*SHAPE))[0], 1.0)
    before = walk.parts.A.detach().clone(), walk.wide().mT
    walk.descend()
    sides = walk.parts.A, walk.wide().mT
    moved = torch.stack([(now != old).any(1) for now, old in zip(sides, before, strict=True)]).any(0)
    assert moved.all(), f"a step moves {int(moved.sum())} of {len(moved)} directions"
    for name, side in zip(("A", "B C"), sides, strict=True):
        values = torch.linalg.svdvals(side.double())
        there = int((values > ZERO * values[0]).sum())
        assert there == len(side), f"{name} has {there} of {len(side)} directions, and no step brings the others"


def check_entries(method, quant):
    """`entries` is how many numbers can change, for every word of the options, too."""
    file = methods.load(method)
    words = [{key: word} for key, choices in file.CHOICES.items() if key in file.OPTIONS for word in choices]
    for options, shape in [*(({}, shape) for shape in SHAPES), *((word, (32, 32)) for word in words)]:
        made, _ = start(method, quant, decaying(*shape), **options)
        free = {} if made.free is None else {"core": int(made.free.sum())}
        count = sum(free.get(part, getattr(made, part).numel()) for part in made.trains)
        said = file.entries(*shape, RANK, methods.options(method, quant, options, "test"))
        assert said == count, f"entries{(*shape, RANK)} is {said}, and {count} can change ({options})"


def begun(method, quant):
    return Quadratic(method, start(method, quant, decaying(*SHAPE), alpha=2 * RANK)[0], 2.0)


def check_learns(method, quant):
    """Three steps of a small rate lower the loss."""
    walk = begun(method, quant)
    before = walk.loss().item()
    walk.train(1, 3)
    after = walk.loss().item()
    assert after < before, f"the loss was {before} and is {after}"


def check_trained(method, quant):
    """What is declared as trained moves, and nothing else."""
    walk = begun(method, quant)
    before = walk.copies()
    walk.train(1, 3)
    moved = [part for part, value in walk.copies().items() if not torch.equal(value, before[part])]
    assert moved == list(walk.start.trains), f"{walk.start.trains} train, and {moved} moved"


def check_hooks(method, quant):
    """Rates are of parts that train, the penalty is a scalar of them, the state is tensors by name."""
    walk = begun(method, quant)
    for part, rate in walk.training.rates().items():
        assert part in walk.start.trains and rate > 0, f"the rate of {part} is {rate}"
    penalty = walk.training.penalty(walk.modules)
    if penalty is not None:
        assert penalty.ndim == 0 and penalty.isfinite() and penalty.requires_grad, f"the penalty is {penalty}"
    walk.train(1, 1)
    assert all(isinstance(value, torch.Tensor) for value in walk.training.state().values()), "a state of no tensors"


def check_resume(method, quant):
    """What a checkpoint keeps is enough to go on with the same bits."""
    whole, first, second = (begun(method, quant) for _ in range(3))
    whole.train(1, 6, penalty=True)
    first.train(1, 3, penalty=True)
    second.go_on_from(first)
    second.train(4, 6, penalty=True)
    for part, value in second.copies().items():
        assert torch.equal(value, whole.copies()[part]), f"{part} is another one after a break"


CHECKS = {name.removeprefix("check_"): value for name, value in list(vars().items()) if name.startswith("check_")}
