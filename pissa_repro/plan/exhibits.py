"""The tables and figures of the studies, and the records that each needs. Imports no torch: Snakemake reads it."""

from pissa_repro import methods
from pissa_repro.plan.sweep import Cell, Sweep

TABLES = ("table4", "table6", "table8", "table9", "trained_as")
FIGURES = ("fig2b", "fig3", "fig7a", "fig9", "fig10", "fig11", "fig14", "alternations", "blocks", "depth")


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
