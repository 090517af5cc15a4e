"""Other quantizers: Table 9 of the paper, the published numbers beside ours."""

from pathlib import Path
from typing import Any

from pissa_repro import methods
from pissa_repro.paper import published
from pissa_repro.paper.words import NOT_COMPARABLE
from pissa_repro.plan import studies
from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.tables.columns import diverged
from pissa_repro.report.tables.table import Row, Table, headed
from pissa_repro.results.curves import read_table
from pissa_repro.results.study import Study, studied
from pissa_repro.runtime import paths
from pissa_repro.tasks import METRIC


def quantizers(sweep: Sweep, results: Path, heading: str) -> Table:
    """The nuclear error of QLoRA and of every alternating method, by quantization; scores where the sweep has them."""
    models = studied(sweep, results)
    return headed(heading, [study.display for study in models], [row for study in models for row in _rows(study)])


def _rows(study: Study) -> list[Row]:
    errors = study.errors("quants")
    sums = (
        errors.groupby(["quant", "rank", "alternations", "method"], sort=False)[["nuclear", "nuclear_plain"]]
        .sum()
        .reset_index()
    )
    theirs = {row["quantiser"]: row for row in published.printed("other_quantisers_v4")["rows"]}
    scores, rows = _scores(study), []
    for (quant, rank, count), group in sums.groupby(["quant", "rank", "alternations"], sort=False):
        row: Row = {"model": study.display, "quant": quant, "rank": rank, "T": count}
        row[f"error {methods.display('lora', str(quant))}"] = plain = group["nuclear_plain"].iloc[0]
        for method, nuclear in zip(group["method"], group["nuclear"], strict=True):
            name = methods.display(method, str(quant))
            row[f"error {name}"], row[f"reduction {name}"] = nuclear, 100 * (1 - nuclear / plain)
        beside = {**scores.get(str(quant), {}), **_published(theirs.get(quant)), **_unlike(study, str(quant))}
        rows.append(row | beside)
    return rows + _gptq(study, next(row for quant, row in theirs.items() if quant.startswith("gptq")))


def _gptq(study: Study, theirs: dict[str, Any]) -> list[Row]:
    """GPTQ's row, whose error is a perplexity; none where the config names no texts for it."""
    settings = study.sweep.config["studies"]["gptq"]
    if not settings:
        return []
    rows = {"calibration_sha256": settings["calibration"], "text_sha256": settings["text"]}
    perplexities = study.record("gptq", studies.gptq_spec(study.sweep, study.model), **rows)["perplexity"]
    names = {"qlora": methods.display("lora", "nf4"), "qpissa": methods.display("pissa", "nf4")}
    row = {"model": study.display, "quant": "gptq", "rank": study.sweep.config["studies"]["rank"], "T": 1}
    row |= {f"error {name}": perplexities[key] for key, name in names.items()}
    before = f"{perplexities['untouched']:.4g} before"
    note = f"error is perplexity on {settings['text']} ({before}); the paper's is WikiText-2's"
    return [{**row, **_published(theirs), "verdict": NOT_COMPARABLE, "note": note}]


def _published(row: dict[str, Any] | None) -> dict[str, Any]:
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


def _scores(study: Study) -> dict[str, dict[str, float | str]]:
    """Mean score in percent over seeds and tasks' paper metric of the swept LoRA and PiSSA cells, by quantization.

    Where a seed diverged there is no mean: how many did stands in its place.
    """
    cells = [cell.name for cell in studies.compared(study.sweep, study.model)]
    if not cells:
        return {}
    keys = ["quant", "display", "task", "rank", "data", "learning_rate"]
    scores = read_table(paths.scores(study.results), ("cell", "metric", "value", *keys))
    here = scores[scores["cell"].isin(cells) & (scores["metric"] == METRIC)]
    means: dict[str, dict[str, float | str]] = {}
    several = {key for key in ("data", "learning_rate") if here[key].nunique() > 1}
    for (quant, display, task, rank, data, rate), group in here.groupby(keys, sort=False):
        more = f" {data}" * ("data" in several) + f" lr{rate:g}" * ("learning_rate" in several)
        lost = diverged(int(group["value"].isna().sum()), len(group))
        means.setdefault(str(quant), {})[f"{task} {display} r{rank}{more}"] = lost or 100 * group["value"].mean()
    return means
