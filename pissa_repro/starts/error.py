"""The quantization error of factors: nuclear, Frobenius and weighted norms, per module and per type.

error = nuc(W - (base + s B C A)), reduction = 100 * (1 - error / nuc(W - quantize(W))) percent, per
module; averaged over the layers of a projection type; AVG is the mean over types (paper, section 4,
equation 8; docs/paper_facts.md 3.3).

weighted: of inputs x of a module, sqrt(E|(W - (base + s B C A)) x|^2), which is |(W - ...) X|_F / sqrt(tokens) of all
of them, X (in, tokens); by the covariance E[x x^T], where one is given.
"""

import logging
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch

from pissa_repro import methods, quantizers
from pissa_repro.linalg import weighted
from pissa_repro.linalg.gram import frobenius, nuclear
from pissa_repro.model import factors
from pissa_repro.model.naming import types
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.progress import track
from pissa_repro.runtime.record_types import ErrorSummary, ModelRecord
from pissa_repro.runtime.specs import ModelStartSpec, StartSpec
from pissa_repro.starts.kept import Kept
from pissa_repro.starts.make import start_modules, walk, weights
from pissa_repro.starts.statistics import Known

log = logging.getLogger(__name__)
Error = dict[str, float]


def error(rest: torch.Tensor, covariance: torch.Tensor | None = None) -> Error:
    """Norms of what is left of a weight (out, in), float32; the weighted one where its inputs' covariance is given."""
    norms = {"nuclear": nuclear(rest), "frobenius": frobenius(rest).item()}
    return norms if covariance is None else {**norms, "weighted": weighted.error(rest, covariance) ** 0.5}


def plain_error(weight: torch.Tensor, quant: str, covariance: torch.Tensor | None = None) -> Error:
    """The error of quantizing a weight (out, in) as it is: what QLoRA starts from."""
    return error(weight - quantizers.roundtrip(weight, quant), covariance)


def remaining(
    weight: torch.Tensor,
    offset: torch.Tensor | None,
    pair: tuple[torch.Tensor, torch.Tensor],
    scaling: float,
    quant: str,
) -> torch.Tensor:
    """W - (quantize(W - offset) + s * B @ A), float32 (out, in), of a pair (A, B)."""
    base = quantizers.base_weight(weight, offset, quant)
    return torch.sub(weight, base, out=base if base is not weight else None).sub_(factors.product(*pair, scaling))


def compared(left: Error, plain: Error) -> Error:
    """An error beside that of plain quantization, and the reduction in percent."""
    reduction = 100 * (1 - left["nuclear"] / plain["nuclear"]) if plain["nuclear"] else 0.0
    return {**left, **{f"{key}_plain": value for key, value in plain.items()}, "reduction": reduction}


def by_type(modules: dict[str, Error]) -> Error:
    """Mean reduction in percent for each projection type, and "avg", the mean over types."""
    groups = defaultdict(list)
    for name, kind in types(modules).items():
        groups[kind].append(modules[name]["reduction"])
    means = {kind: sum(values) / len(values) for kind, values in groups.items()}
    return {**means, "avg": sum(means.values()) / len(means)}


def measure_factors(
    folder: str,
    initial: factors.Factors,
    quant: str,
    trained: factors.Factors | None = None,
    weighing: Known | None = None,
) -> dict[str, Error]:
    """The errors of every module of factors: of initial ones, or of trained ones on the base of the initial ones.

    quant: of the base that they are evaluated on. Without quantization there is nothing to compare
    with: the errors of the trained factors then are what training has changed. weighing: covariances of the modules'
    inputs, for the weighted errors.
    """
    errors, last = {}, trained or initial
    for name, weight in track(weights(folder, initial.A), "quant_error", len(initial.A)):
        offset = initial.offset_product(name)
        offset = None if offset is None else offset.to(weight)
        pair = last.A[name].to(weight), last.wide(name).to(weight)
        rest = remaining(weight, offset, pair, last.scaling(name), quant)
        covariance = _covariance(weighing, name, weight)
        left = error(rest, covariance)
        errors[name] = left if quant == "none" else compared(left, plain_error(weight, quant, covariance))
    return errors


def _covariance(weighing: Known | None, name: str, weight: torch.Tensor) -> torch.Tensor | None:
    """The covariance (in, in) of a module's inputs. Raises UserError where it is of other modules than this."""
    if weighing is None:
        return None
    found = weighing.of(name, 1, weight.device)["covariance"]
    if found.shape != (weight.shape[1],) * 2:
        raise UserError(f"{name}: its weight is {tuple(weight.shape)}, and the covariance {tuple(found.shape)}.")
    return found


def measure_stored(
    model: ModelRecord, start: Path, trained: Path | None, quants: list[str], weighing: Known | None = None
) -> dict[str, ErrorSummary]:
    """The summary of the errors of factors in a folder on each base: at the start, or after training."""
    if not trained:
        refuse_plain(quants)
    initial = factors.load(start, model)
    last = factors.load_trained(trained, initial) if trained else None
    summaries: dict[str, ErrorSummary] = {}
    for quant in quants:
        errors = measure_factors(model["path"], initial, quant, last, weighing)
        facts = summaries[quant] = summary(errors)
        reduction = "" if facts["reduction"] is None else f" reduction {facts['reduction']['avg']:.2f} %"
        log.info("base %s: nuclear error %.6g%s", quant, facts["total"]["nuclear"], reduction)
    return summaries


def refuse_plain(quants: list[str]) -> None:
    """Raise UserError where a start would be measured on a plain base."""
    if "none" in quants:
        raise UserError("quant 'none' has no quantization error; measure a quantized cell (--quant nf4).")


def measure_starts(
    folder: str,
    specs: Sequence[ModelStartSpec],
    kept: Kept,
    known: Known | None = None,
    weighing: Known | None = None,
) -> list[dict[str, Error]]:
    """The errors of starts that are made on the way and not stored; each weight is read and decomposed once."""
    errors: list[dict[str, Error]] = [{} for _ in specs]
    shapes, by_modules = walk(folder, specs)
    for name, weight in track(weights(folder, shapes), "quant_error", len(shapes)):
        here, covariance = [modules[name] for modules in by_modules], _covariance(weighing, name, weight)
        plain = plain_error(weight, specs[0]["quant"], covariance)
        starts = start_modules(name, weight, here, kept, known)
        for spec, of_spec, (start, _) in zip(here, errors, starts, strict=True):
            of_spec[name] = compared(error(rest_of(weight, start, spec), covariance), plain)
    return errors


def rest_of(weight: torch.Tensor, start: methods.Start, spec: StartSpec) -> torch.Tensor:
    """W - (base + s B C A) of the initial factors of one weight."""
    scaling = factors.scaling(spec["alpha"], spec["rank"], spec["rslora"])
    offset = None if start.taken is None else factors.product(*start.taken, scaling)
    return remaining(weight, offset, (start.A, start.wide), scaling, spec["quant"])


def summary(modules: dict[str, Error]) -> ErrorSummary:
    """What the record says of all modules: sums of the errors, and the reductions by type."""
    keys = [key for key in next(iter(modules.values())) if key.startswith(("nuclear", "frobenius", "weighted"))]
    total = {key: sum(m[key] for m in modules.values()) for key in keys}
    return {"total": total, "reduction": by_type(modules) if "nuclear_plain" in total else None, "modules": modules}
