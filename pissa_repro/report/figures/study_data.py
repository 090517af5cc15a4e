"""What the studies' figures are drawn from: measured errors and spectra. The published numbers: study_published.py.

A missing record, column, row or number raises UserError: no figure has holes.
"""

import math
import re
from typing import Any

import pandas

from pissa_repro import methods, quantizers
from pissa_repro.model.naming import order
from pissa_repro.paper import published
from pissa_repro.plan import studies
from pissa_repro.report.figures import looks
from pissa_repro.report.figures.looks import Look
from pissa_repro.results.curves import numbers
from pissa_repro.results.study import Study
from pissa_repro.runtime.errors import UserError, unknown

POINT = ["method", "quant", "rank", "alternations"]
WHOLE = ("layer", "rank", "alternations")
VALUES = ("reduction", "nuclear_plain")
PLAIN = published.METHODS["qlora"][0]  # the method that quantizes a weight as it is
SYMBOLS = {"mu": "\u03bc", "abs_mu": "|\u03bc|", "sigma": "\u03c3", "df": "df", "loc": "loc", "scale": "scale"}


def errors(study: Study, grid: str) -> pandas.DataFrame:
    """The errors of a grid, one row per module and point, every point with all modules."""
    path = study.place(f"errors_{grid}.csv")
    spec = studies.errors_spec(study.sweep, study.model, grid)
    table = study.rows(f"errors_{grid}", spec, ("module", "type", *POINT, *WHOLE, *VALUES))
    table = table.assign(**{column: numbers(table, column, path) for column in (*WHOLE, *VALUES)})
    table = table.astype(dict.fromkeys(WHOLE, int))
    counts, modules = table.groupby(POINT)["module"].agg(["size", "nunique"]), table["module"].nunique()
    for point in spec["points"]:
        place: tuple[Any, ...] = (point["method"], point["quant"], point["rank"], point["alternations"])  # as POINT
        if place not in counts.index or (counts.loc[place] != modules).any():
            raise UserError(f"{path}: not one row for each of {modules} modules at {place}. Delete it and run again.")
    return table


def averages(table: pandas.DataFrame, value: str = "reduction") -> pandas.DataFrame:
    """The mean over modules of a type, then over types (quant_error.by_type): one row per point."""
    kinds = table.groupby([*POINT, "type"], sort=False)[value].mean()
    return kinds.groupby(level=POINT, sort=False).mean().reset_index()


def kinds(study: Study, table: pandas.DataFrame) -> list[str]:
    """The projection types in the order of the config's target modules, else as papers list them."""
    modules = table.drop_duplicates("type").set_index("type")["module"]
    targets = study.sweep.config["studies"]["target_modules"] or []

    def place(kind: str) -> int:
        hits = (i for i, target in enumerate(targets) if f".{modules[kind]}".endswith(f".{target}"))
        return next(hits, order(kind))

    return sorted(modules.index, key=place)


def rank_of(study: Study, points: pandas.DataFrame) -> int:
    """The study's rank where the points have it, else their largest."""
    wanted = study.sweep.config["studies"]["rank"]
    return wanted if (points["rank"] == wanted).any() else points["rank"].max()


def bars(points: pandas.DataFrame, rank: int) -> pandas.DataFrame:
    """The bars of Figure 2b: every method at a rank, by T; at the largest rank the best one with the most T."""
    here = points[points["rank"] == rank].sort_values("alternations", kind="stable")
    top, most = points["rank"].max(), points["alternations"].max()
    last = points[(points["rank"] == top) & (points["alternations"] == most)]
    return pandas.concat([here, last.nlargest(1, "reduction")]) if top > rank else here


def with_blocks(points: pandas.DataFrame) -> pandas.DataFrame:
    """The points with the columns block (values that share a scale) and kind (the name without the block size).

    Raises UserError for a quantization without blocks.
    """
    quants = [quantizers.find(quant, "config.studies.blocks") for quant in points["quant"]]
    for name, quant in zip(points["quant"], quants, strict=True):
        if "blocksize" not in quant.options:
            raise UserError(f"config.studies.blocks: {name} has no block size; name 4-bit quantizations only.")
    kinds = [re.sub(r"-b\d+", "", name) for name in points["quant"]]
    return points.assign(block=[quant.options["blocksize"] for quant in quants], kind=kinds)


def standard(table: pandas.DataFrame) -> str:
    """The quantization that others are compared with: nf4 (block size 64), else the first of the list of all."""
    return "nf4" if (table["quant"] == "nf4").any() else min(table["quant"], key=quantizers.names().index)


def against(table: pandas.DataFrame) -> pandas.DataFrame:
    """Rows of plain quantization with `ratio`: a module's nuclear error over that with the standard one."""
    once = table.drop_duplicates(["module", "quant"]).assign(method=PLAIN)
    reference = once[once["quant"] == standard(table)].set_index("module")["nuclear_plain"]
    return once.assign(ratio=once["nuclear_plain"] / once["module"].map(reference))


def spread(points: pandas.DataFrame) -> str:
    """How far the lines of one method lie apart over the block size, for the caption."""
    ends = points.groupby(["method", "block"])["reduction"].agg(["size", "min", "max"])
    if ends["size"].max() == 1:
        return ""
    return f"lines of one method are at most {(ends['max'] - ends['min']).max():.2g} points apart"


def maps(points: pandas.DataFrame, kinds: list[str]) -> dict[str, pandas.DataFrame]:
    """Error reduction of each method by layer (rows) and projection type (columns)."""
    return {
        str(method): part.pivot_table(values="reduction", index="layer", columns="type")[kinds]
        for method, part in points.groupby("method", sort=False)
    }


def modules(table: pandas.DataFrame) -> str:
    """How many modules a figure is of, for its caption."""
    return f"{table['module'].nunique()} modules"


def spectra(study: Study) -> dict[str, Any]:
    """The singular values and distributions of a model."""
    record = study.record("spectra", studies.spectra_spec(study.sweep, study.model))
    place = str(study.place("spectra.json"))
    for key in ("module", "shape", "singular_values", "distributions", "student_t", "all_modules", "modules"):
        if key not in record:
            raise unknown("entry", key, record, place)
        if not _finite(record[key]):
            raise UserError(f"{place}: '{key}' holds what is not a finite number. Delete it and run again.")
    return record


def _finite(node: Any) -> bool:
    if isinstance(node, dict | list):
        return all(map(_finite, node.values() if isinstance(node, dict) else node))
    return isinstance(node, str) or (node is not None and math.isfinite(node))


def error_words(study: Study, record: dict[str, Any]) -> dict[str, str]:
    """The errors among the singular values and the word for each one's method, in the config's order of methods."""
    known = [PLAIN, *study.sweep.config["studies"]["methods"]]
    words = {key: key.removeprefix("error_") for key in record["singular_values"] if key.startswith("error_")}
    return dict(
        sorted(words.items(), key=lambda pair: [*known, published.ours(pair[1])].index(published.ours(pair[1])))
    )


def matrix(record: dict[str, Any]) -> list[str]:
    """What the caption says of the single matrix."""
    spec, (rows, columns) = record["spec"], record["shape"]
    place = f"{record['module']} ({rows} x {columns}, one of {record['modules']} modules)"
    return [place, f"rank {spec['rank']}, {spec['quant']}, 1 alternation", outside(record["distributions"])]


def digits(value: float) -> str:
    """A parameter of a distribution with three digits."""
    return f"{value:.3g}" if abs(value) >= 1e-3 or not value else f"{value:.2e}"


def outside(histograms: dict[str, Any]) -> str:
    """How many values the histograms leave out, for the caption."""
    if not any(histogram["outside"] for histogram in histograms.values()):
        return ""
    words = " and ".join(f"{histogram['outside']} of {key}" for key, histogram in histograms.items())
    return f"beyond the axis: {words}, of {histograms['W']['n']} values each"


def look(method: str) -> Look:
    """The look of a method on nf4."""
    return looks.look(methods.display(method, "nf4"), method, "nf4")


def at_rank(study: Study, points: pandas.DataFrame) -> pandas.DataFrame:
    """The points at the study's rank, else at their largest."""
    return points[points["rank"] == rank_of(study, points)]
