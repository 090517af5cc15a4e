"""The tables of the studies, the published numbers beside: Tables 4, 6, 8 and 9 of the paper.

A table is one function (Study) -> Rows in TABLES.
"""

from collections.abc import Callable
from typing import Any

import pandas

from pissa_repro import methods
from pissa_repro.model.naming import order
from pissa_repro.paper import published
from pissa_repro.paper.verdict import AGREES, DIFFERS, NOT_COMPARABLE
from pissa_repro.plan import studies
from pissa_repro.plan.exhibits import swept
from pissa_repro.results.curves import read_table
from pissa_repro.results.records import Fetched, checked
from pissa_repro.results.study import Study
from pissa_repro.runtime.errors import UserError
from pissa_repro.tasks import METRIC

# Our error reductions and the paper's are of the same weights and deterministic: half a unit of the
# printed digit, 0.05 for double quantization (trap 16), and 0.1 for the solver.
TOLERANCE = 0.2
OURS, THEIRS = "measured", "published"
HEADINGS = {
    "table4": "Error reduction in percent by projection type, {turns} alternations (paper, Table 4)",
    "table6": "Solvers: time, error and final loss (paper, Table 6)",
    "table8": "Error reduction in percent by projection type (paper, Table 8)",
    "table9": "Other quantizers: nuclear norm of the error (paper, Table 9)",
    "trained_as": "Nuclear norm of W - (base + sBA) after training, by the base that it is evaluated on",
}
Rows = list[dict[str, Any]]


def reductions(errors: pandas.DataFrame) -> pandas.DataFrame:
    """Mean reduction by point (rows) and projection type (columns), and avg, the mean over types."""
    points = ["method", "quant", "rank", "alternations"]
    found = errors.pivot_table(values="reduction", index=points, columns="type", aggfunc="mean", sort=False)
    return found[sorted(found.columns, key=order)].assign(avg=found.mean(axis=1))


def by_projection(study: Study, turns: list[int]) -> Rows:
    """Tables 4 and 8: ours, each with its verdict, and the published rows of every model."""
    found = reductions(study.errors("ranks"))
    theirs = [row for row in published.printed("quant_error_reduction_v4")["rows"] if row["niter"] in turns]
    ours = [
        {"source": OURS, "model": study.display, "method": methods.display(method, quant), "rank": rank, "T": turn,
         **values.to_dict(), **verdict(study, method, rank, turn, values.to_dict(), theirs)}
        for (method, quant, rank, turn), values in found.iterrows()
        if turn in turns
    ]  # fmt: skip
    kinds = [kind for kind in found.columns if kind != "avg"]
    return ours + [_published_row(row, kinds) for row in theirs]


def _published_row(row: dict[str, Any], kinds: list[str]) -> dict[str, Any]:
    values = {kind: row[_short(kind)] for kind in kinds if _short(kind) in row}
    name = methods.display(published.ours(row["method"]), "nf4")
    same = {"source": THEIRS, "model": row["model"], "method": name, "rank": row["rank"], "T": row["niter"]}
    return {**same, **values, "avg": row["avg"], "note": "v4 Table 8 (Table 4 is its part with T = 5)"}


def _short(kind: str) -> str:
    return kind.removesuffix("_proj")


def verdict(study: Study, method: str, rank: int, turn: int, ours: dict[str, float], theirs: Rows) -> dict[str, Any]:
    """Whether error reductions agree with the published ones of the same model, method, rank and T."""
    wanted = (study.paper, method, rank, turn)
    match = [
        row for row in theirs if (row["model"], published.ours(row["method"]), row["rank"], row["niter"]) == wanted
    ]
    if not match:
        return {"verdict": NOT_COMPARABLE, "note": f"nothing published of {study.display} at this rank and T"}
    off = {kind: abs(value - match[0][_short(kind)]) for kind, value in ours.items() if _short(kind) in match[0]}
    worst = max(off, key=off.get)
    note = f"largest difference {off[worst]:.2f} points ({worst}), tolerance {TOLERANCE}"
    return {"verdict": AGREES if off[worst] <= TOLERANCE else DIFFERS, "note": note}


def table8(study: Study) -> Rows:
    """Every rank and number of alternations."""
    return by_projection(study, study.sweep.config["studies"]["alternations"])


def table4(study: Study) -> Rows:
    """The most alternations only."""
    return by_projection(study, [max(study.sweep.config["studies"]["alternations"])])


def table6(study: Study) -> Rows:
    """Seconds, error and final loss of every solver and rank. The paper's are of other hardware: trends only."""
    spec = studies.solvers_spec(study.sweep, study.model)
    found, theirs = study.rows("solvers", spec, ("svd", "rank", "seconds", "error", "excess")), _fast_svd()
    losses, note = _losses(study), "times are of other hardware, the paper's averaging of the error is not stated"
    rows = []
    for row in found.to_dict("records"):
        place = row["svd"], row["rank"]
        rows.append({"model": study.display, **row, "final_loss": losses.get(place), **theirs.get(place, {})})
        rows[-1] |= {"verdict": NOT_COMPARABLE, "note": note if place in theirs else "not in the paper's table"}
    return rows


def _fast_svd() -> dict[tuple[str, int], dict[str, float]]:
    """Table 6 by our solver's name and the rank."""
    found: dict[tuple[str, int], dict[str, float]] = {}
    for metric, rows in published.printed("fast_svd_v4")["rows"].items():
        for row in rows:
            svd = "exact" if row["niter"] == "full_svd" else f"niter_{row['niter']}"
            for key, value in row.items():
                if key != "niter":
                    found.setdefault((svd, int(key[1:])), {})[f"published_{metric}"] = value
    return found


def _losses(study: Study) -> dict[tuple[str, int], float]:
    """Mean final loss over seeds of the swept PiSSA cells on a plain base, by solver and rank."""
    found: dict[tuple[str, int], list[float]] = {}
    settings: dict[tuple[str, int], set] = {}
    for cell in swept(study.sweep, study.model, "table6"):
        path = study.results / "cells" / cell.name / "train.json"
        record = checked(path, study.sweep.train_spec(cell))
        Fetched(study.results).compare(path, record, cell.model, cell.data)
        place = (record["spec"]["init"]["options"]["svd"], cell.rank)
        settings.setdefault(place, set()).add((cell.method, cell.data, cell.learning_rate))
        if len(settings[place]) > 1:
            raise UserError(
                f"table6: {place} has several settings: {settings[place]}. Sweep one rate, data and method."
            )
        found.setdefault(place, []).append(record["final_loss"])
    return {place: sum(values) / len(values) for place, values in found.items()}


def table9(study: Study) -> Rows:
    """The nuclear error of QLoRA and of every alternating method, by quantization; scores where the sweep has them."""
    errors = study.errors("quants")
    sums = errors.groupby(["quant", "rank", "alternations", "method"], sort=False)[["nuclear", "nuclear_plain"]].sum()
    theirs, scores, rows = (
        {row["quantiser"]: row for row in published.printed("other_quantisers_v4")["rows"]},
        _scores(study),
        [],
    )
    for (quant, rank, turns), group in sums.groupby(level=[0, 1, 2], sort=False):
        row = {"model": study.display, "quant": quant, "rank": rank, "T": turns}
        row[f"error {methods.display('lora', quant)}"] = plain = group["nuclear_plain"].iloc[0]
        for (*_, method), values in group.iterrows():
            row[f"error {methods.display(method, quant)}"] = values["nuclear"]
            row[f"reduction {methods.display(method, quant)}"] = 100 * (1 - values["nuclear"] / plain)
        rows.append({**row, **scores.get(quant, {}), **_table9_published(theirs.get(quant)), **_unlike(study, quant)})
    return rows + _gptq(study, next(row for quant, row in theirs.items() if quant.startswith("gptq")))


def _gptq(study: Study, theirs: dict[str, Any]) -> Rows:
    """GPTQ's row, whose error is a perplexity; none where the config names no texts for it."""
    settings = study.sweep.config["studies"]["gptq"]
    if not settings:
        return []
    found = study.record("gptq", studies.gptq_spec(study.sweep, study.model))["perplexity"]
    names = {"qlora": methods.display("lora", "nf4"), "qpissa": methods.display("pissa", "nf4")}
    row = {"model": study.display, "quant": "gptq", "rank": study.sweep.config["studies"]["rank"], "T": 1}
    row |= {f"error {name}": found[key] for key, name in names.items()}
    note = f"error is perplexity on {settings['text']} ({found['untouched']:.4g} before); the paper's is WikiText-2's"
    return [{**row, **_table9_published(theirs), "verdict": NOT_COMPARABLE, "note": note}]


def _table9_published(row: dict[str, Any] | None) -> dict[str, Any]:
    if row is None:
        return {}
    error, accuracy = row["error"], row["gsm8k"]
    return {
        "published_error_qlora": error["qlora"],
        "published_error_qpissa": error["qpissa"],
        "published_gsm8k_qlora": accuracy["qlora"],
        "published_gsm8k_qpissa": accuracy["qpissa"],
    }


def _unlike(study: Study, quant: str) -> dict[str, str]:
    note = "LLaMA-3-8B; neither rank, T nor the averaging over modules is printed (paper_facts.md 1.8)"
    return {"verdict": NOT_COMPARABLE, "note": note if quant in ("nf4", "int8") else "not in the paper's table"}


def _scores(study: Study) -> dict[str, dict[str, float]]:
    """Mean score in percent over seeds and tasks' paper metric of the swept LoRA and PiSSA cells, by quantization."""
    cells = swept(study.sweep, study.model, "table9")
    if not cells:
        return {}
    keys = ["quant", "display", "task", "rank", "data", "learning_rate"]
    scores = read_table(study.results / "scores.csv", ("cell", "metric", "value", *keys))
    here = scores[scores["cell"].isin([cell.name for cell in cells]) & (scores["metric"] == METRIC)]
    found: dict[str, dict[str, float]] = {}
    several = {key for key in ("data", "learning_rate") if here[key].nunique() > 1}
    for (quant, display, task, rank, data, rate), group in here.groupby(keys, sort=False):
        more = f" {data}" * ("data" in several) + f" lr{rate:g}" * ("learning_rate" in several)
        found.setdefault(quant, {})[f"{task} {display} r{rank}{more}"] = 100 * group["value"].mean()
    return found


def trained_as(study: Study) -> Rows:
    """A row a trained cell; the columns are the bases that its factors are evaluated on."""
    rows = []
    for cell in swept(study.sweep, study.model, "trained_as"):
        path = study.results / "cells" / cell.name / "trained_error.json"
        record = checked(path, studies.trained_error_spec(study.sweep, cell))
        Fetched(study.results).compare(path, record, cell.model)
        errors = {f"as {quant}": part["total"]["nuclear"] for quant, part in record["evaluated_as"].items()}
        same = {"method": study.sweep.display(cell), "rank": cell.rank, "data": cell.data,
                "learning rate": cell.learning_rate, "seed": cell.seed, "trained as": cell.quant}  # fmt: skip
        rows.append({"model": study.display, **same, **errors})
    if not rows:
        raise UserError("trained_as: no cell to show; set config.studies.trained, and sweep a quantized cell.")
    return rows


TABLES: dict[str, Callable[[Study], Rows]] = {
    "table4": table4,
    "table6": table6,
    "table8": table8,
    "table9": table9,
    "trained_as": trained_as,
}


def markdown(heading: str, rows: Rows) -> str:
    """The rows as a Markdown table under a heading; numbers with the digits that matter."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [columns, ["---"] * len(columns), *([_cell(row.get(key)) for key in columns] for row in rows)]
    return f"## {heading}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _cell(value: Any) -> str:
    if value is None or value != value:  # NaN: pandas' word for nothing
        return ""
    if isinstance(value, float):
        return f"{value:.2f}" if abs(value) >= 1 else f"{value:.4g}" if abs(value) >= 1e-3 else f"{value:.2e}"
    return str(value)
