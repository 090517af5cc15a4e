"""Make a method's initial factors from a model's weights, each read and decomposed once."""

import hashlib
import itertools
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from pissa_repro import methods
from pissa_repro.linalg.spectrum import Spectrum
from pissa_repro.model import checkpoint, factors, targets
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.progress import track
from pissa_repro.runtime.provenance import provenance
from pissa_repro.runtime.record import atomic_folder, refuse_no_space, write_json
from pissa_repro.runtime.record_types import Base, StartFacts
from pissa_repro.runtime.specs import InitSpec, ModelStartSpec, StartSpec
from pissa_repro.starts import ranks
from pissa_repro.starts.checked import check
from pissa_repro.starts.facts import captured, measured, summary
from pissa_repro.starts.kept import Kept
from pissa_repro.starts.statistics import Asked, Known

log = logging.getLogger(__name__)
Shape = tuple[int, int]
EQUALITY = 1e-5  # |W - (base + s B C A)| / |W| allowed on a plain base: float32 rounding, with room
NOTHING: Mapping[str, torch.Tensor] = {}


class Made(NamedTuple):
    """The initial factors of a model, and what the record says of them by module."""

    factors: factors.Factors
    facts: dict[str, StartFacts]


def generator(seed: int, module: str) -> torch.Generator:
    """Random numbers of one module: the same in any order of modules and on any machine."""
    digest = hashlib.sha256(f"{seed}/{module}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def spectrum(name: str, weight: torch.Tensor, kept: Kept | None = None) -> Spectrum:
    """The spectrum of a module's weight (out, in). Its random numbers depend on the name alone."""
    keep = kept.of(name, weight.device) if kept else None
    return Spectrum(weight, partial(generator, 0, name), keep, name=f"{name}.weight")


def setting(
    name: str, decomposed: Spectrum, spec: StartSpec, statistics: Mapping[str, torch.Tensor] = NOTHING
) -> methods.Setting:
    """What a method may know beside the weight. Raises UserError where it has to know more of data than is given.

    It knows of the statistics that its file asks for, and of no others (`Asked`).
    """
    if lacking := [kind for kind in methods.load(spec["method"]).STATISTICS if kind not in statistics]:
        raise UserError(
            f"method {spec['method']}: its start has to know the {' and the '.join(lacking)} of data, which a sweep "
            "measures (rules/statistics.smk), and which --statistics gives by hand."
        )
    known = Asked(spec["method"], statistics)
    scaling = factors.scaling(spec["alpha"], spec["rank"], spec["rslora"])
    drawn, quant, options = generator(spec["seed"], name), spec["quant"], spec["options"]
    return methods.Setting(spec["rank"], scaling, quant, drawn, decomposed, options, known)


def start_module(
    name: str, decomposed: Spectrum, spec: StartSpec, statistics: Mapping[str, torch.Tensor] = NOTHING
) -> tuple[methods.Start, StartFacts]:
    """The parts of one weight, and what the record says of them. statistics: of the module over data, by kind.

    Raises UserError for a rank above the weight's smaller side, for statistics that are not given, for parts that are
    not as the contract has them, and when base + s B C A misses W, where the method's file does not say why it moves.
    """
    rank, quant, weight, method = spec["rank"], spec["quant"], decomposed.weight, methods.load(spec["method"])
    check_ranks({name: tuple(weight.shape)}, [rank], spec["method"])
    given = setting(name, decomposed, spec, statistics)
    start, scaling = method.start(weight, given), given.scaling
    check(name, tuple(weight.shape), start, spec["method"])
    facts = measured(weight, start, scaling, quant)
    if len(start.A) != rank:
        facts["rank"] = len(start.A)
    if start.offset == "start" and start.excess is not None and spec["options"].get("alternations", 1) == 1:
        facts["captured"], facts["captured_bound"] = captured(facts["norm_offset"] ** 2, start.excess)
    if quant == "none" and not method.MOVES and not facts["equality_error"] <= EQUALITY:
        raise UserError(f"{name}: base + sBA misses W by {facts['equality_error']:.1e} of its norm (limit {EQUALITY}).")
    return start, facts


def check_ranks(shapes: Mapping[str, tuple[int, ...]], ranks: Iterable[int], method: str = "") -> None:
    """Raise UserError for a rank that one of the modules, {name: shape of its weight}, cannot have in this method."""
    for (name, shape), rank in itertools.product(shapes.items(), ranks):
        most = methods.load(method).largest_rank(*shape) if method else min(shape)
        if not 1 <= rank <= most:
            limits = f"{name} {shape} has ranks from 1 to {most}{f' in {method}' if most < min(shape) else ''}"
            places = "config.sweep.ranks, config.studies.ranks or rank, --rank, or a method's rank_pattern"
            raise UserError(f"rank {rank}: {limits} ({places}).")


def walk(folder: str, specs: Sequence[ModelStartSpec]) -> tuple[dict[str, Shape], list[dict[str, ModelStartSpec]]]:
    """The shape (out, in) of every target module of a model folder, and for each spec that of every module.

    The specs differ in anything but their target modules. Raises UserError for a rank that a module cannot have.
    """
    by_modules = [targets.by_module(folder, spec) for spec in specs]
    shapes = checkpoint.shapes(folder, list(by_modules[0]))
    for modules in by_modules:
        for name, spec in modules.items():
            check_ranks({name: shapes[name]}, [spec["rank"]], spec["method"])
    return shapes, by_modules


def weights(folder: str, modules: Iterable[str]) -> Iterator[tuple[str, torch.Tensor]]:
    """The name and the float32 weight (out, in) of these modules, one at a time; on the GPU if there is one."""
    for name, weight in checkpoint.targets(folder, list(modules)):
        yield name, weight.cuda() if torch.cuda.is_available() else weight


def start_model(
    folder: str, specs: Sequence[ModelStartSpec], kept: Kept | None = None, known: Known | None = None
) -> list[Made]:
    """Factors of every target module of a model folder, and their facts by module, for each spec.

    The specs differ in anything but their target modules; each weight is read and decomposed once, and once before for
    methods that give modules ranks of their own. known: statistics of data.
    """
    shapes, by_modules = walk(folder, specs)
    by_modules = _with_ranks(folder, shapes, by_modules, kept, known)
    made = [Made(factors.Factors({}, {}, None, s["rank"], s["alpha"], s["rslora"]), {}) for s in specs]
    for name, weight in track(weights(folder, shapes), f"init {specs[0]['method']}", len(shapes)):
        here = [modules[name] for modules in by_modules]
        starts = start_modules(name, weight, here, kept, known)
        for spec, (collected, of_modules), (start, facts) in zip(here, made, starts, strict=True):
            of_modules[name] = ({"rank": spec["rank"]} if _redistributes(spec) else {}) | facts
            _add(collected, name, start, spec)
    return made


def start_modules(
    name: str,
    weight: torch.Tensor,
    specs: Sequence[StartSpec],
    kept: Kept | None = None,
    known: Known | None = None,
) -> Iterator[tuple[methods.Start, StartFacts]]:
    """`start_module` for several specs, one after the other; the weight is decomposed once."""
    decomposed = spectrum(name, weight, kept)
    for spec in specs:
        yield start_module(name, decomposed, spec, _of(known, name, spec, weight))


def _of(known: Known | None, name: str, spec: StartSpec, weight: torch.Tensor) -> Mapping[str, torch.Tensor]:
    return known.of(name, spec["rank"], weight.device) if known else NOTHING


def _with_ranks(
    folder: str,
    shapes: Mapping[str, Shape],
    by_modules: list[dict[str, ModelStartSpec]],
    kept: Kept | None,
    known: Known | None,
) -> list[dict[str, ModelStartSpec]]:
    """The specs of the modules with the ranks that their methods give them (ranks.py); a walk over all weights."""
    asking = [modules for modules in by_modules if any(map(_redistributes, modules.values()))]
    if not asking:
        return by_modules
    summaries: list[dict[str, torch.Tensor]] = [{} for _ in by_modules]
    for name, weight in track(weights(folder, shapes), "summaries", len(shapes)):
        decomposed = spectrum(name, weight, kept)
        for modules, found in zip(by_modules, summaries, strict=True):
            spec = modules[name]
            if _redistributes(spec):
                given = setting(name, decomposed, spec, _of(known, name, spec, weight))
                found[name] = methods.load(spec["method"]).summary(weight, given)
    return [ranks.spread(modules, found, shapes) for modules, found in zip(by_modules, summaries, strict=True)]


def _redistributes(spec: StartSpec) -> bool:
    return methods.redistributes(spec["method"], spec["options"])


def _add(collected: factors.Factors, name: str, start: methods.Start, spec: StartSpec) -> None:
    """Add the parts of a module. Raises UserError where it has, trains or takes out others than those before."""
    offset = "own" if isinstance(start.offset, tuple) else start.offset
    found = start.trains, start.core is not None, offset
    before = collected.trained, bool(collected.core), collected.offset
    if collected.A and found != before:
        says = "trained {}, a core {}, offset {!r}"
        raise UserError(
            f"{methods.PLUGINS.file(spec['method'])}: start of {name}: {says.format(*found)}; in the modules before it "
            f"{says.format(*before)}. All modules have, train and take out the same parts."
        )
    collected.A[name], collected.B[name], collected.trained = start.A.cpu(), start.B.cpu(), start.trains
    if start.core is not None:
        collected.core[name] = start.core.cpu()
    if start.free is not None:
        collected.free[name] = start.free.cpu()
    if (alpha := _alpha(start, spec)) != collected.alpha:
        collected.alphas[name] = alpha
    collected.offset = offset
    if isinstance(start.offset, tuple):
        collected.offset_A[name], collected.offset_B[name] = (side.cpu() for side in start.offset)


def _alpha(start: methods.Start, spec: StartSpec) -> float:
    """The alpha by which a module of a rank of its own is scaled as one of the spec's rank."""
    rank, alpha, rslora = spec["rank"], spec["alpha"], spec["rslora"]
    k = len(start.A)
    return alpha if k == rank else factors.alpha_of(factors.scaling(alpha, rank, rslora), k, rslora)


def write(folder: Path, spec: InitSpec, base: Base, made: Made, started: float, data_sha256: str | None = None) -> None:
    """Write the folder of initial factors, whole or not at all. data_sha256: of the rows that they were made from.

    Raises NoRoom where the disk has too little space for them.
    """
    facts = summary(made.facts)
    moves = methods.load(spec["method"]).MOVES
    facts_of_file = {"moves": moves} if moves else {}
    record = {"spec": spec, "base": base, **facts, **facts_of_file, "modules": made.facts}
    record |= {"dtype": "float32", "solver_seed": 0}
    if data_sha256:
        record["data_sha256"] = data_sha256
    refuse_no_space(folder, made.factors.size)
    with atomic_folder(folder) as unfinished:
        factors.save(unfinished, made.factors, base, spec["method"], spec["quant"])
        write_json(unfinished / "init.json", {**record, "provenance": provenance(started)})
    excess = "" if facts["excess"] is None else f", excess over the best rank {facts['excess']:.1e}"
    log.info("%s: %d modules, equality error %.1e%s", folder, len(made.facts), facts["equality_error"], excess)
