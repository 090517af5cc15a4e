"""A sweep that every exhibit of trained cells can show, its records made by hand, and trainings of it that diverge."""

import copy
import json
import math
from itertools import product

import recorded
from recorded import BASE, ORIGIN

from pissa_repro.plan import studies
from pissa_repro.plan.config import ROOT, load
from pissa_repro.plan.sweep import Sweep
from pissa_repro.results.table import COLUMNS, rows
from pissa_repro.runtime import paths
from pissa_repro.runtime.record import read_json, sha256, write_csv, write_json

PLAIN = ("full", "full-bf16", "lora", "pissa", "milora", "middle", "dora", "pissa-dora")
CELLS = [
    *({"method": name, "quant": "none"} for name in PLAIN),
    *({"method": name, "quant": "nf4"} for name in ("lora", "loftq", "pissa")),
]
AT = 12  # the step at which a training diverges
GRIDS = ("ranks", "quants")
TEXT = "held-out-text"


def swept() -> Sweep:
    """Two ranks, two seeds, a text beside the benchmark, and every study of trained cells."""
    files = ("config", "errors", "paper_embedded")
    config = copy.deepcopy(load(*(ROOT / f"config/{name}.yaml" for name in files)))
    (task,) = config["sweep"]["tasks"]
    rows_ = config["datasets"][config["tasks"][task]["dataset"]]
    kept = {key: value for key, value in rows_.items() if key != "response_format"}
    config["datasets"][TEXT] = {**kept, "fields": {"text": "question"}, "display": "a text"}
    config["tasks"][TEXT] = {"task": "perplexity", "dataset": TEXT, "max_new_tokens": 1}
    config["sweep"] |= {"cells": CELLS, "ranks": [4, 16], "seeds": [0, 1], "tasks": [task, TEXT]}
    config["exhibits"] = {"table6": {"cells": [{"method": "pissa", "quant": "none"}]}}
    small = {"ranks": [4, 16], "rank": 4, "alternations": [1, 5], "quants": ["nf4"]}
    config["studies"] |= {"models": config["sweep"]["models"], "trained": True, **small}
    return Sweep(config)


def record(sweep, results, lost=lambda cell: False):
    """Write the records; lost: says of a cell whether its training diverged."""
    recorded.record(sweep, results)
    for cell in sweep.cells.values():
        _more(sweep, cell, results)
        if lost(cell):
            _lose(sweep, cell, results)
    _starts(sweep, results)
    _studies(sweep, results)
    write_csv(paths.scores(results), COLUMNS, list(rows(sweep, results)))


def _more(sweep, cell, results):
    """What the records of other tests have not: sizes of updates, texts to read again, a perplexity, studies."""
    home = paths.cell(cell.name, results)
    moved = 1e-7 if cell.method == "full" else 0.1  # full fine-tuning stands for the model before its training
    write_json(home.train, read_json(home.train) | {"update": moved})
    path = home.score(TEXT)
    score = read_json(path)
    value = {"value": math.exp(score["metrics"]["paper"]["value"]), "stderr": None, "n": recorded.ITEMS}
    write_json(path, score | {"metrics": score["metrics"] | {"perplexity": value}})
    for task in sweep.config["sweep"]["tasks"]:
        path = home.samples(task)
        items = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        lines = [json.dumps(item | {"target": "#### 1", "generated": f"It is {item['id'] % 3}."}) for item in items]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    same = {"base": BASE, "trained_sha256": {"a": cell.name}}
    facts = {"size": moved, "values": [moved, moved / 2], "stable_rank": 1.2, "effective_rank": 1.5}
    modules = {f"model.layers.{layer}.self_attn.q_proj": facts for layer in range(2)}
    write_json(home.updates, {"spec": studies.updates_spec(sweep, cell), **same, "modules": modules, "mean": moved})
    if cell in studies.quantized(sweep):
        spec = studies.trained_error_spec(sweep, cell)
        errors = {quant: {"total": {"nuclear": 3.5}} for quant in spec["evaluated_as"]}
        write_json(home.trained_error, {"spec": spec, **same, "evaluated_as": errors})


def _lose(sweep, cell, results):
    """The same records of a training that diverged, as the stages write them."""
    home = paths.cell(cell.name, results)
    facts = {"diverged": AT, "final_loss": None, "steps": AT, "update": None}
    write_json(home.train, read_json(home.train) | facts)
    kept = home.steps.read_text(encoding="utf-8").splitlines()[:AT]
    home.steps.write_text("\n".join([*kept, f"{AT},nan,0.001,inf"]) + "\n", encoding="utf-8")
    for task in sweep.config["sweep"]["tasks"]:
        nothing = {"seconds": 0.0, "tokens": 0, "runs": []}
        score = read_json(home.score(task)) | {"metrics": {}, "diverged": AT, "generated": nothing}
        write_json(home.score(task), score)
        home.samples(task).write_text("", encoding="utf-8")
    for path in (home.updates, home.trained_error):
        if path.is_file():
            measured = read_json(path)
            write_json(path, {key: measured[key] for key in ("spec", "base", "trained_sha256")} | {"diverged": AT})


def _starts(sweep, results):
    """The records of starts and of their errors."""
    sums = dict.fromkeys(("nuclear", "frobenius", "weighted"), 2.0)
    for name, cell in sweep.starts.items():
        made = {"spec": sweep.init_spec(cell), "base": BASE, "provenance": ORIGIN}
        write_json(paths.start_record(name, results), made)
        if cell.quant != "none":
            total = {kind: value + 0.1 * cell.rank + 0.3 * (cell.method == "pissa") for kind, value in sums.items()}
            total |= {f"{kind}_plain": 8.0 for kind in sums}
            error = read_json(paths.start_error(name, results)) | {"total": total, "divergence": total["nuclear"] / 9}
            weighing = sweep.weighing(cell)
            write_json(paths.start_error(name, results), error | {"data_sha256": weighing.data if weighing else None})


def _studies(sweep, results):
    """The tables of errors and of solvers of the one studied model."""
    (model,) = sweep.config["studies"]["models"]
    types = ("q_proj", "down_proj")
    columns = ("module", "type", "layer", "method", "quant", "rank", "alternations", "nuclear", "nuclear_plain")
    for grid in GRIDS:
        spec = studies.errors_spec(sweep, model, grid)
        table = [
            {"module": f"layers.{layer}.{kind}", "type": kind, "layer": layer, **point, "nuclear": 6.0,
             "nuclear_plain": 8.0, "reduction": 25.0}
            for point, layer, kind in product(spec["points"], range(2), types)
        ]  # fmt: skip
        _table(results, model, f"errors_{grid}", spec, (*columns, "reduction"), table)
    spec = studies.solvers_spec(sweep, model)
    table = [
        {"svd": svd, "rank": rank, "seconds": 1.0, "error": 0.5, "excess": 0.01}
        for svd, rank in product(spec["svd"], spec["ranks"])
    ]
    _table(results, model, "solvers", spec, ("svd", "rank", "seconds", "error", "excess"), table)


def _table(results, model, name, spec, columns, rows_):
    path = paths.study(model, f"{name}.csv", results)
    write_csv(path, columns, rows_)
    write_json(path.with_suffix(".json"), {"spec": spec, "base": BASE, "csv_sha256": sha256(path)})
