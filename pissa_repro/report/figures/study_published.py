"""The published numbers beside those of the studies' figures, and what captions say of them."""

import pandas

from pissa_repro import methods
from pissa_repro.paper import published
from pissa_repro.paper.printed import MODELS as PRINTED
from pissa_repro.report.figures.study_data import PLAIN, POINT, SYMBOLS, at_rank
from pissa_repro.results.study import Study

PAPER = "llama-2-7b"  # the model of the paper's studies over ranks (Figures 3, 7 and 14)


def beside(study: Study) -> str:
    """The published model whose error reductions stand beside: the same one where Table 8 has it."""
    known = {row["model"] for row in published.printed("quant_error_reduction_v4")["rows"]}
    return study.paper if study.paper and study.paper in known else PAPER


def reductions(model: str, kind: str) -> pandas.DataFrame:
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
    points = [
        (PRINTED[model] + (" (digitised)" if source is picture else ""), published.ours(word), "nf4", rank, count,
         value, source["confidence"], source["paper_ref"])
        for word, rank, count, value, source in rows
        if published.ours(word) != PLAIN  # 0 by definition
    ]  # fmt: skip
    return pandas.DataFrame(points, columns=["model", *POINT, "reduction", "confidence", "ref"]).drop_duplicates(POINT)


def listed(study: Study, model: str, kinds: list[str], alternations: int) -> str:
    """The published error reductions at a number of alternations as text, for the caption."""
    theirs = {kind: reductions(model, kind) for kind in kinds}
    points = pandas.concat([part.assign(type=kind) for kind, part in theirs.items()])
    points = points[points["alternations"] == alternations]
    points = at_rank(study, points) if len(points) else points
    words = []
    for (method, rank), here in points.groupby(["method", "rank"], sort=False):
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
    origins = points.groupby(["ref", "confidence"], sort=False).size().index
    places = "; ".join(f"{sureness(confidence)}: {ref}" for ref, confidence in origins)
    return f"hollow: published for {named(study, model)}; {places}"


def sureness(confidence: str) -> str:
    """How sure a published number is, for the caption."""
    known = {"seen_two_conversions": "read in two sources", "seen_once": "read in one source"}
    return known.get(confidence, confidence.replace("_", " "))


def named(study: Study, model: str) -> str:
    """A published model's name, marked where it is not the study's own."""
    return PRINTED[model] + ("" if model == study.paper else ", another model")
