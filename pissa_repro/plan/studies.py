"""The paper's studies of initialisation and quantization error, on any model: no training is needed.

Which points each study measures, and the specs of its stages. Imports no torch: Snakemake reads it.
"""

from pathlib import Path

from pissa_repro import methods
from pissa_repro.plan import versions
from pissa_repro.plan.cells import Cell
from pissa_repro.plan.sections import Studies
from pissa_repro.plan.sweep import SOLVER_VERSION, STAGE_VERSION, Sweep
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError, unknown
from pissa_repro.runtime.study_specs import (
    ErrorsSpec,
    GptqSpec,
    GridPoint,
    SolversSpec,
    SpectraSpec,
    StudySpec,
    TrainedErrorSpec,
    UpdatesSpec,
)

# Raise a number when a stage's code changes what comes out of it.
VERSION = {"errors": 1, "spectra": 1, "solvers": 1, "gptq": 1, "updates": 1}


def _points(methods: list[str], quants: list[str], ranks: list[int], alternations: list[int]) -> list[GridPoint]:
    """Every combination, in the order in which a table reads."""
    return [
        {"method": method, "quant": quant, "rank": rank, "alternations": count}
        for quant in quants
        for rank in ranks
        for count in alternations
        for method in methods
    ]


def grid(studies: Studies, name: str) -> list[GridPoint]:
    """The points of a grid of errors: method, quant, rank, alternations. Raises UserError for an unknown grid."""
    methods, rank, most = studies["methods"], studies["rank"], max(studies["alternations"])
    grids = {
        "ranks": (methods, ["nf4"], studies["ranks"], studies["alternations"]),  # Tables 4 and 8, Figures 2b, 7a, 14
        "quants": (methods, studies["quants"], [rank], studies["alternations"]),  # Table 9
        "alternations": (methods, ["nf4"], [rank], studies["many_alternations"]),
        "blocks": (methods, studies["blocks"], [rank], [most]),
    }
    if name not in grids:
        raise unknown("grid", name, grids, str(paths.studies()))
    return _points(*grids[name])


def errors_spec(sweep: Sweep, model: str, name: str) -> ErrorsSpec:
    """Spec of measuring a grid of errors on a model."""
    points = grid(sweep.config["studies"], name)
    return {**_spec(sweep, model, "errors", *(point["quant"] for point in points)), "points": points}


def spectra_spec(sweep: Sweep, model: str) -> SpectraSpec:
    """Spec of the singular values and the distribution of a model's weights (Figures 3, 9, 10, 11)."""
    studies = sweep.config["studies"]
    own = _spec(sweep, model, "spectra", "nf4")
    return {**own, "module": studies["module"], "rank": studies["rank"], "quant": "nf4"}


def solvers_spec(sweep: Sweep, model: str) -> SolversSpec:
    """Spec of timing the solvers over ranks (Table 6)."""
    studies = sweep.config["studies"]
    return {**_spec(sweep, model, "solvers"), "svd": studies["svd"], "ranks": studies["ranks"]}


def trained_error_spec(sweep: Sweep, cell: Cell) -> TrainedErrorSpec:
    """Spec of measuring trained factors on the base that they were trained on and on others (pitfall 24)."""
    quants = list(dict.fromkeys([cell.quant, "none", *sweep.config["studies"]["quants"]]))
    return {
        "stage": "trained_error",
        "version": STAGE_VERSION["quant_error"],
        "train": sweep.train_spec(cell),
        "init": sweep.init_spec(cell),
        "evaluated_as": quants,
        **versions.of_quants(quants),
    }


def updates_spec(sweep: Sweep, cell: Cell) -> UpdatesSpec:
    """Spec of measuring how far a cell's training has moved each module."""
    version, start = VERSION["updates"], sweep.init_spec(cell)
    return {"stage": "updates", "version": version, "train": sweep.train_spec(cell), "init": start}


def gptq_spec(sweep: Sweep, model: str) -> GptqSpec:
    """Spec of GPTQ's row of Table 9."""
    studies = sweep.config["studies"]
    if not (asked := studies["gptq"]):
        raise UserError(
            "config.studies.gptq: names no datasets; give calibration, text and rows (docs/reference/config.md)."
        )
    return {
        **_spec(sweep, model, "gptq"),
        "rank": studies["rank"],
        "rows": asked["rows"],
    }


def _spec(sweep: Sweep, model: str, stage: str, *quants: str) -> StudySpec:
    studies = sweep.config["studies"]
    if model not in studies["models"]:
        raise unknown("model", model, studies["models"], "config.studies.models")
    return {
        "stage": stage,
        "version": VERSION[stage],
        "solver_version": SOLVER_VERSION,
        "method_versions": {name: methods.version(name) for name in studies["methods"]},
        **versions.of_quants(quants),
        "target_modules": studies["target_modules"],
    }


def records(sweep: Sweep, name: str) -> list[Path]:
    """The record of a measurement of every studied model."""
    return [paths.study(model, f"{name}.json") for model in sweep.config["studies"]["models"]]


def tables(sweep: Sweep, name: str) -> list[Path]:
    """The CSV of a measurement of every studied model, each with its record."""
    models = sweep.config["studies"]["models"]
    return [paths.study(model, f"{name}.{kind}") for model in models for kind in ("csv", "json")]


def trained(sweep: Sweep, model: str | None = None) -> list[Cell]:
    """The trained cells that tables may show, of one studied model or of all; none unless the config says `trained`."""
    studies = sweep.config["studies"]
    models = [name for name in studies["models"] if model in (None, name)]
    return [cell for cell in sweep.cells.values() if cell.model in models] if studies["trained"] else []


def solved(sweep: Sweep, model: str | None = None) -> list[Cell]:
    """Those of `trained` whose start has a solver, on a plain base (Table 6: their final losses)."""

    def wanted(cell: Cell) -> bool:
        definition = sweep.definition(cell.method)
        has_solver = "svd" in methods.load(definition["init"]).OPTIONS
        return has_solver and not definition["lora"] and cell.quant == "none"

    return [cell for cell in trained(sweep, model) if wanted(cell)]


def compared(sweep: Sweep, model: str | None = None) -> list[Cell]:
    """Those of `trained` with factors on a studied quantization (Table 9: their scores)."""
    quants = sweep.config["studies"]["quants"]
    return [cell for cell in trained(sweep, model) if sweep.has_factors(cell) and cell.quant in quants]


def quantized(sweep: Sweep, model: str | None = None) -> list[Cell]:
    """Those of `trained` with factors on a quantized base, where nothing trains but A and B."""

    def wanted(cell: Cell) -> bool:
        only_factors = sweep.has_factors(cell) and not sweep.train_spec(cell)["lora"]
        return only_factors and cell.quant != "none"

    return [cell for cell in trained(sweep, model) if wanted(cell)]


def moved(sweep: Sweep, model: str | None = None) -> list[Cell]:
    """Those of `trained` whose update can be told from what they left: factors alone train, or every weight does."""
    return [cell for cell in trained(sweep, model) if not sweep.train_spec(cell)["lora"]]


def weighed(sweep: Sweep) -> list[Cell]:
    """The sweep's cells whose starts' errors are weighed by data; none unless the config says `data`."""
    return [cell for cell in sweep.cells.values() if sweep.weighing(cell)]


def weighed_records(sweep: Sweep, trained: bool) -> list[Path]:
    """The records of these errors, each once; trained: with those of the trainings."""
    cells = weighed(sweep)
    errors = dict.fromkeys(paths.start_error(cell.start) for cell in cells)
    return [*errors, *(paths.cell(cell.name).train for cell in cells if trained)]
