"""What the studies' figures are drawn from: measured errors and spectra, and the published numbers beside.

A missing record, column, row or number raises UserError: no figure has holes.
"""

import math
from typing import Any

import pandas

from pissa_repro import methods, quantizers
from pissa_repro.model.naming import order
from pissa_repro.paper import published
from pissa_repro.plan import studies
from pissa_repro.report.figures import style
from pissa_repro.report.figures.style import Look
from pissa_repro.results.curves import numbers
from pissa_repro.results.study import Study
from pissa_repro.runtime.errors import UserError, unknown

POINT = ["method", "quant", "rank", "alternations"]
WHOLE = ("layer", "rank", "alternations")
VALUES = ("reduction", "nuclear_plain")
PLAIN = published.METHODS["qlora"][0]  # the method that quantizes a weight as it is
PAPER = "llama-2-7b"  # the model of the paper's studies over ranks (Figures 3, 7 and 14)
SYMBOLS = {"mu": "\u03bc", "abs_mu": "|\u03bc|", "sigma": "\u03c3", "df": "df", "loc": "loc", "scale": "scale"}
PRINTED = {
    "llama-2-7b": "LLaMA-2-7B", "llama-3-8b": "LLaMA-3-8B", "llama-3-70b": "LLaMA-3-70B",
    "mistral-7b-v0.1": "Mistral-7B-v0.1", "gemma-7b": "Gemma-7B",
}  # fmt: skip


def errors(study: Study, grid: str) -> pandas.DataFrame:
    """The errors of a grid, a row per module and point, every point with all modules."""
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
    """The mean over modules of a type, then over types (quant_error.by_type), a row per point."""
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
    """The points with the columns block (values that share a scale) and kind (data type, "-dq" if double).

    Raises UserError for a quantization without blocks.
    """
    found = [quantizers.find(quant, "config.studies.blocks") for quant in points["quant"]]
    for name, quant in zip(points["quant"], found, strict=True):
        if "blocksize" not in quant.options:
            raise UserError(f"config.studies.blocks: {name} has no block size; name 4-bit quantizations only.")
    kinds = [quant.file + "-dq" * quant.options["double"] for quant in found]
    return points.assign(block=[quant.options["blocksize"] for quant in found], kind=kinds)


def standard(table: pandas.DataFrame) -> str:
    """The quantization that others are compared with: nf4 (block size 64), else the first one."""
    return "nf4" if (table["quant"] == "nf4").any() else table["quant"].iloc[0]


def against(table: pandas.DataFrame) -> pandas.DataFrame:
    """Rows of plain quantization with `ratio`: a module's nuclear error over that with the standard one."""
    once = table.drop_duplicates(["module", "quant"]).assign(method=PLAIN)
    reference = once[once["quant"] == standard(table)].set_index("module")["nuclear_plain"]
    return once.assign(ratio=once["nuclear_plain"] / once["module"].map(reference))


def spread(points: pandas.DataFrame) -> str:
    """How far the lines of one method lie apart over the block size, for the caption."""
    found = points.groupby(["method", "block"])["reduction"].agg(["size", "min", "max"])
    if found["size"].max() == 1:
        return ""
    return f"lines of one method are at most {(found['max'] - found['min']).max():.2g} points apart"


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


def outside(found: dict[str, Any]) -> str:
    """How many values the histograms leave out, for the caption."""
    if not any(one["outside"] for one in found.values()):
        return ""
    words = " and ".join(f"{one['outside']} of {key}" for key, one in found.items())
    return f"beyond the axis: {words}, of {found['W']['n']} values each"


def look(study: Study, method: str) -> Look:
    """The look of a method on a quantized base; methods that the sweep has are numbered as in its own figures."""
    swept = [study.sweep.definition(cell.method)["init"] for cell in study.sweep.cells.values()]
    known = list(dict.fromkeys([*swept, PLAIN, *study.sweep.config["studies"]["methods"], method]))
    return style.look(methods.display(method, "nf4"), known.index(method))


def beside(study: Study) -> str:
    """The published model whose error reductions stand beside: the same one where Table 8 has it."""
    known = {row["model"] for row in published.printed("quant_error_reduction_v4")["rows"]}
    return study.paper if study.paper and study.paper in known else PAPER


def published_reductions(model: str, kind: str) -> pandas.DataFrame:
    """The paper's error reductions of a projection type ("avg": their mean), with model, confidence and ref."""
    leaf = kind.removesuffix("_proj")
    picture = published.printed("rank_sweep_quantised_llama2_7b_digitised")
    table = published.printed("quant_error_reduction_v4")
    rows = [
        (row["method"], rank, picture["setup"]["niter"], value, picture)
        for row in (picture["rows"].get(f"{leaf}_proj_error_reduction_pct", []) if model == picture["model"] else [])
        for rank, value in zip(picture["ranks"], row["values"], strict=True)
    ]
    here = [row for row in table["rows"] if row["model"] == model and leaf in row]
    rows += [(row["method"], row["rank"], row["niter"], row[leaf], table) for row in here]
    found = [
        (PRINTED[model] + (" (digitised)" if source is picture else ""), published.ours(word), "nf4", rank, turns,
         value, source["confidence"], source["paper_ref"])
        for word, rank, turns, value, source in rows
        if published.ours(word) != PLAIN  # 0 by definition
    ]  # fmt: skip
    return pandas.DataFrame(found, columns=["model", *POINT, "reduction", "confidence", "ref"]).drop_duplicates(POINT)


def at_rank(study: Study, points: pandas.DataFrame) -> pandas.DataFrame:
    """The points at the study's rank, else at their largest."""
    return points[points["rank"] == rank_of(study, points)]


def listed(study: Study, model: str, kinds: list[str], turns: int) -> str:
    """The published error reductions at a number of alternations as text, for the caption."""
    theirs = {kind: published_reductions(model, kind) for kind in kinds}
    found = pandas.concat([one.assign(type=kind) for kind, one in theirs.items()])
    found = found[found["alternations"] == turns]
    found = at_rank(study, found) if len(found) else found
    words = []
    for (method, rank), here in found.groupby(["method", "rank"], sort=False):
        values = ", ".join(f"{kind} {value}" for kind, value in zip(here["type"], here["reduction"], strict=True))
        words.append(f"{methods.display(str(method), 'nf4')}, rank {rank}: {values}")
    if not words:
        return f"no published numbers of {PRINTED[model]} for this"
    return f"published means over the layers of {named(study, model)} (v4 Table 8): {'; '.join(words)}"


def fits(study: Study, kind: str, every_weight: bool) -> str:
    """The published fits of W and of the residual as text: of one matrix, or of all weights of some models."""
    table = published.printed("weight_distribution_v4")
    words = []
    for row in table["rows"]:
        model, _, part = row["model"].partition(" ")
        if row["fit"] == kind and (part == "all weights") == every_weight:
            both = (
                ", ".join(f"{SYMBOLS[k]}\u00a0{value:g}" for k, value in row[key].items()) for key in ("W", "W_res")
            )
            words.append(f"{PRINTED[model]}{' (this model)' * (model == study.paper)}, {part}: {' → '.join(both)}")
    own = any("(this model)" in word for word in words)
    return f"published{'' if own else ' of other models'} ({sureness(table['confidence'])}): {'; '.join(words)}"


def sources(study: Study, model: str, points: pandas.DataFrame) -> str:
    """What the caption says of published points."""
    if points.empty:
        return f"no published numbers of {PRINTED[model]} for this"
    found = points.groupby(["ref", "confidence"], sort=False).size().index
    places = "; ".join(f"{sureness(confidence)}: {ref}" for ref, confidence in found)
    return f"hollow: published for {named(study, model)}; {places}"


def sureness(confidence: str) -> str:
    """How sure a published number is, for the caption."""
    known = {"seen_two_conversions": "read in two sources", "seen_once": "read in one source"}
    return known.get(confidence, confidence.replace("_", " "))


def named(study: Study, model: str) -> str:
    """A published model's name, marked where it is not the study's own."""
    return PRINTED[model] + ("" if model == study.paper else ", another model")
