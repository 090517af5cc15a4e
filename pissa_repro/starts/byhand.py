"""Starts that are made or measured by hand, without a config."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pissa_repro import methods, quantizers
from pissa_repro.model import checkpoint
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import read_json
from pissa_repro.runtime.record_types import ModelRecord
from pissa_repro.runtime.specs import InitSpec
from pissa_repro.sources.fetched import base_of, fetch_model, stored_model
from pissa_repro.starts import estimate, weighing
from pissa_repro.starts.error import by_type, measure_starts, measure_stored, refuse_plain, summary
from pissa_repro.starts.kept import Kept
from pissa_repro.starts.make import check_ranks, start_model, write
from pissa_repro.starts.statistics import Known

log = logging.getLogger(__name__)
Record = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """Starts of one model: what a config says of a cell, and the ranks. None: the default. statistics: folders of."""

    method: str
    quant: str
    ranks: list[int]
    alpha: float | None
    rslora: bool
    alternations: int | None
    svd: str | None
    seed: int
    target_modules: list[str] | None
    statistics: Sequence[Path] = ()


def model(name: str, revision: str) -> ModelRecord:
    """The record of a model: a folder, `embedded`, a fetched model's record, or a hub id.

    Raises UserError when it is none of them.
    """
    if name.endswith(".json"):
        return stored_model(name)
    if name == "embedded" or Path(name).is_dir():
        return fetch_model({"path": name})
    if name.count("/") != 1 or name.startswith((".", "/")):
        raise UserError(f"MODEL {name}: no such folder, and a hub id has the form owner/name.")
    return fetch_model({"hub": name, "revision": revision})


def init_specs(asked: Asked, folder: str) -> list[InitSpec]:
    """The specs of the init stage that were asked for, one per rank. Raises UserError for what makes no sense."""
    quantizers.find(asked.quant, "--quant")
    methods.load(asked.method, "--method")
    if not methods.has_factors(asked.method):
        raise UserError(f"--method {asked.method}: it has no factors to start from.")
    if reason := methods.refusal(asked.method, asked.quant):
        raise UserError(f"--method {asked.method} --quant {asked.quant} makes no sense: {reason}.")
    if asked.alpha is not None and not 0 < asked.alpha < float("inf"):
        raise UserError(f"--alpha {asked.alpha}: it must be a number above 0 (default: the rank).")
    given = {"alternations": asked.alternations, "svd": asked.svd}
    given = {key: value for key, value in given.items() if value is not None}
    options = methods.options(asked.method, asked.quant, given, "--method")
    targets = asked.target_modules or checkpoint.projections(folder)
    if twice := [rank for rank in asked.ranks if asked.ranks.count(rank) > 1]:
        raise UserError(f"--rank {twice[0]}: given twice.")
    check_ranks(checkpoint.shapes(folder, targets), asked.ranks, asked.method)
    return [
        {
            "stage": "init", "method": asked.method, "options": options, "quant": asked.quant, "rank": rank,
            "alpha": float(asked.alpha or rank), "rslora": asked.rslora, "target_modules": targets,
            "seed": asked.seed,
        }
        for rank in asked.ranks
    ]  # fmt: skip


def known_of(asked: Asked, base: ModelRecord) -> Known:
    """What the starts know of data. Raises UserError where their method has to know more, or knows of none."""
    known, wanted = Known(asked.statistics, base["fingerprint"]), methods.load(asked.method).STATISTICS
    if known.specs.keys() != wanted.keys():
        given = ", ".join(known.specs) or "none"
        raise UserError(
            f"--method {asked.method}: it starts from these statistics of data: {', '.join(wanted) or 'none'}, and "
            f"--statistics gives {given}. A sweep leaves their folders in results/statistics."
        )
    return known


def refuse_redistribution(spec: InitSpec, place: str) -> None:
    """Raise UserError for a method that gives modules ranks of their own, where weights are looked at one by one."""
    if methods.redistributes(method := spec["method"], spec["options"]):
        raise UserError(f"--method {method}: it gives every module a rank of its own, from all of them. {place}")


def decompose(base: ModelRecord, asked: Asked, out: Path, scratch: Path) -> None:
    """Make and write the starts that were asked for, one folder per rank; base: the record of their model."""
    started, specs = time.perf_counter(), init_specs(asked, base["path"])
    known = known_of(asked, base)
    folders = [out / f"r{spec['rank']}" for spec in specs] if len(specs) > 1 else [out]
    estimate.announce(estimate.init_cost(base["path"], specs))
    kept = Kept(scratch, base["fingerprint"])
    for spec, folder, made in zip(specs, folders, start_model(base["path"], specs, kept, known), strict=True):
        written: InitSpec = {**spec, "statistics": known.specs} if known.specs else spec
        write(folder, written, base_of(base), made, started, known.data_sha256)


def errors(base: ModelRecord, asked: Asked, scratch: Path, covariance: Path | None = None) -> Record:
    """The errors of the starts that were asked for, one per rank; nothing is stored.

    covariance: a folder of statistics that the errors are weighed by, too.
    """
    specs = init_specs(asked, base["path"])
    refuse_plain([asked.quant])
    refuse_redistribution(specs[0], "Make its factors (pissa decompose --factors), and measure those.")
    known = known_of(asked, base)
    estimate.announce(estimate.error_cost(base["path"], specs))
    starts = []
    by = weighing.known(base, covariance)
    measured = measure_starts(base["path"], specs, Kept(scratch, base["fingerprint"]), known, by)
    for spec, modules in zip(specs, measured, strict=True):
        starts.append({"spec": spec, **summary(modules)})
        reductions = by_type(modules)
        average = reductions.pop("avg")
        kinds = " ".join(f"{kind} {value:.2f}" for kind, value in reductions.items())
        log.info("rank %d: error reduction %.2f %% (%s)", spec["rank"], average, kinds)
    return {**({"weighed_by": by.specs} if by else {}), "starts": starts}


def errors_of_stored(
    base: ModelRecord,
    start: Path,
    trained: Path | None,
    quants: list[str] | None,
    covariance: Path | None = None,
    rows: Path | None = None,
) -> Record:
    """The errors of factors in a folder, on each base that was asked for.

    covariance: a folder of statistics that they are weighed by, too. rows: behind it, over which the distributions of
    the start and of the model are compared.
    """
    for quant in quants or ():
        quantizers.find(quant, "--evaluated-as")
    spec = read_json(start / "init.json")["spec"]
    known = weighing.known(base, covariance)
    on_bases = measure_stored(base, start, trained, quants or [spec["quant"]], known)
    facts = {"evaluated_as": on_bases} if trained or quants else on_bases[spec["quant"]]
    more = weighing.compared(base, start, spec["quant"], known, rows) if known and rows else {}
    return {"spec": {"init": spec, **({"weighed_by": known.specs} if known else {})}, **more, **facts}
