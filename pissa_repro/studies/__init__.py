"""The paper's studies of initialisation and quantization error, on any model: no training is needed.

Which points each study measures, and the specs of its stages. Imports no torch: Snakemake reads it.
"""

from typing import Any

from pissa_repro import methods
from pissa_repro.errors import UserError, unknown
from pissa_repro.sweep import SOLVER_VERSION, STAGE_VERSION, Cell, Sweep

# Raise a number when a stage's code changes what comes out of it.
VERSION = {"errors": 1, "spectra": 1, "solvers": 1, "gptq": 1}
TABLES = ("table4", "table6", "table8", "table9", "trained_as")
FIGURES = ("fig2b", "fig3", "fig7a", "fig9", "fig10", "fig11", "fig14", "alternations", "blocks", "depth")

Point = dict[str, Any]


def _points(methods: list[str], quants: list[str], ranks: list[int], turns: list[int]) -> list[Point]:
    """Every combination, in the order in which a table reads."""
    return [
        {"method": method, "quant": quant, "rank": rank, "alternations": turn}
        for quant in quants
        for rank in ranks
        for turn in turns
        for method in methods
    ]


def grid(studies: dict[str, Any], name: str) -> list[Point]:
    """The points of a grid of errors: method, quant, rank, alternations. Raises UserError for an unknown grid."""
    methods, rank, most = studies["methods"], studies["rank"], max(studies["alternations"])
    grids = {
        "ranks": (methods, ["nf4"], studies["ranks"], studies["alternations"]),  # Tables 4 and 8, Figures 2b, 7a, 14
        "quants": (methods, studies["quants"], [rank], studies["alternations"]),  # Table 9
        "turns": (methods, ["nf4"], [rank], studies["turns"]),
        "blocks": (methods, studies["blocks"], [rank], [most]),
    }
    if name not in grids:
        raise unknown("grid", name, grids, "results/studies")
    return _points(*grids[name])


def errors_spec(sweep: Sweep, model: str, name: str) -> dict[str, Any]:
    """Spec of measuring a grid of errors on a model."""
    return _spec(sweep, model, "errors") | {"points": grid(sweep.config["studies"], name)}


def spectra_spec(sweep: Sweep, model: str) -> dict[str, Any]:
    """Spec of the singular values and the distribution of a model's weights (Figures 3, 9, 10, 11)."""
    studies = sweep.config["studies"]
    return _spec(sweep, model, "spectra") | {"module": studies["module"], "rank": studies["rank"], "quant": "nf4"}


def solvers_spec(sweep: Sweep, model: str) -> dict[str, Any]:
    """Spec of timing the solvers over ranks (Table 6)."""
    studies = sweep.config["studies"]
    return _spec(sweep, model, "solvers") | {"svd": studies["svd"], "ranks": studies["ranks"]}


def trained_error_spec(sweep: Sweep, cell: Cell) -> dict[str, Any]:
    """Spec of measuring trained factors on the base that they were trained on and on others (trap 24)."""
    quants = list(dict.fromkeys([cell.quant, "none", *sweep.config["studies"]["quants"]]))
    spec = {"stage": "trained_error", "version": STAGE_VERSION["quant_error"], "train": sweep.train_spec(cell)}
    return spec | {"init": sweep.init_spec(cell), "evaluated_as": quants}


def tables_of(sweep: Sweep) -> tuple[str, ...]:
    """The tables of this config: with `trained` and quantized cells, also the one of trained factors."""
    return (
        TABLES if any(swept(sweep, model, TABLES[-1]) for model in sweep.config["studies"]["models"]) else TABLES[:-1]
    )


def table_inputs(sweep: Sweep, model: str, table: str) -> list[str]:
    """The records behind a table: the measurements and, if the config says `trained`, the sweep's trainings."""
    measured = {"table4": "errors_ranks", "table6": "solvers", "table8": "errors_ranks", "table9": "errors_quants"}
    found = [f"results/studies/{model}/{measured[table]}.{kind}" for kind in ("csv", "json") if table in measured]
    names = [cell.name for cell in swept(sweep, model, table)]
    if table == "table9":
        found += [f"results/studies/{model}/gptq.json"] if sweep.config["studies"]["gptq"] else []
        return found + (["results/scores.csv"] if names else [])
    return found + [f"results/cells/{name}/{TRAINED[table]}.json" for name in names]


TRAINED = {"table6": "train", "trained_as": "trained_error"}


def swept(sweep: Sweep, model: str, table: str) -> list[Cell]:
    """The cells of the sweep that a table shows beside its measurements; none unless the config says `trained`.

    Table 6: methods with a solver on a plain base (final losses). Table 9: methods with factors on the
    quantized bases (scores). trained_as: the same on every quantized base, without DoRA's magnitudes.
    """

    def wanted(cell: Cell) -> bool:
        definition = sweep.definition(cell.method)
        has_solver = "svd" in getattr(methods.load(definition["init"]), "OPTIONS", {})
        only_factors = sweep.has_factors(cell) and not definition["lora"].get("use_dora")
        return {
            "table6": has_solver and not definition["lora"] and cell.quant == "none",
            "table9": sweep.has_factors(cell) and cell.quant in sweep.config["studies"]["quants"],
            "trained_as": only_factors and cell.quant != "none",
        }.get(table, False)

    cells = sweep.cells.values() if sweep.config["studies"]["trained"] else ()
    return [cell for cell in cells if cell.model == model and wanted(cell)]


def figure_inputs(sweep: Sweep, model: str, figure: str) -> list[str]:
    """The records behind a figure."""
    spectra = f"results/studies/{model}/spectra.json"
    grids = {"alternations": "turns", "blocks": "blocks"}
    if figure in ("fig3", "fig9", "fig10", "fig11"):
        return [spectra]
    return [f"results/studies/{model}/errors_{grids.get(figure, 'ranks')}.{kind}" for kind in ("csv", "json")]


def gptq_spec(sweep: Sweep, model: str) -> dict[str, Any]:
    """Spec of GPTQ's row of Table 9."""
    studies = sweep.config["studies"]
    if not studies["gptq"]:
        raise UserError("config.studies.gptq: names no datasets; give calibration, text and rows (config/README.md).")
    data = {key: sweep.data_spec(studies["gptq"][key]) for key in ("calibration", "text")}
    rows = {"rank": studies["rank"], "rows": studies["gptq"]["rows"]}
    return _spec(sweep, model, "gptq") | data | rows


def _spec(sweep: Sweep, model: str, stage: str) -> dict[str, Any]:
    studies = sweep.config["studies"]
    if model not in studies["models"]:
        raise unknown("model", model, studies["models"], "config.studies.models")
    return {
        "stage": stage,
        "version": VERSION[stage],
        "solver_version": SOLVER_VERSION,
        "method_versions": {name: getattr(methods.load(name), "VERSION", 1) for name in studies["methods"]},
        "model": sweep.model_spec(model),
        "target_modules": studies["target_modules"],
    }
