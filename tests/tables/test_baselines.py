"""The tables of methods side by side and of learning rates, on folders made by hand: every number is invented."""

import csv
import math
from statistics import fmean

import pytest
import tabled
from figured import drawn
from tabled import make

from pissa_repro.exhibits import output
from pissa_repro.plan.config import ROOT, load
from pissa_repro.plan.sweep import Sweep
from pissa_repro.report.tables import rates
from pissa_repro.report.tables.table import save
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import read_json, write_json

CELLS = [("untrained", "none"), ("lora", "none"), ("pissa", "none"), ("eva", "none"), ("lora", "nf4")]
STEP = {"untrained": 9.0, "lora": 2.0, "pissa": 3.0, "eva": 5.0}  # seconds
UNEVEN = {"pissa": 0.1}  # by how many seconds the step of the next seed is longer
STEPS, UPDATE = {"untrained": 1}, {"untrained": 1e-7}  # of the others: 220 and 0.5, 0.6, 0.7
NATS = {"untrained": 1.0, "lora": 1.25, "pissa": 1.5, "eva": 1.0}  # per token of every item
MACHINE = {"platform": "p", "processor": "q", "cores": 2, "memory_gib": 8.0}


@pytest.fixture(scope="module")
def config():
    raw = load(ROOT / "config" / "config.yaml", ROOT / "config" / "baselines.yaml")
    raw["sweep"]["cells"] = [{"method": method, "quant": quant} for method, quant in CELLS]
    return raw


@pytest.fixture
def folder(tmp_path, config, monkeypatch):
    """A results folder with everything that the table reads."""
    for cell in (*CELLS, ("base-none", "none"), ("base-nf4", "nf4")):
        monkeypatch.setitem(tabled.RIGHT, cell, tabled.RIGHT.get(cell, 0.4))
        monkeypatch.setitem(tabled.LOSS, cell, tabled.LOSS.get(cell, 0.6))
    make(tmp_path, config, table="gsm8k", scored=graded)
    sweep = Sweep(config)
    write_json(paths.model("mini-llama", tmp_path), {"fingerprint": "f"})
    for name in config["datasets"]:
        write_json(paths.data(name, tmp_path), {"sha256": name})
    for cell in sweep.cells.values():
        write_json(paths.cell(cell.name, tmp_path).train, trained(sweep, cell))
        origin = {"seconds": 10.0 + cell.start_seed, "memory_bytes": 2**30, "gpu_memory_bytes": None}
        start = {"spec": sweep.init_spec(cell), "base": {"fingerprint": "f"}, "provenance": origin}
        write_json(paths.start_record(cell.start, tmp_path), start)
    for name, one in sweep.statistic_jobs.items():
        origin = {"seconds": 77.0, "memory_bytes": 3 * 2**30, "gpu_memory_bytes": None}
        record = {"spec": one.spec, "base": {"fingerprint": "f"}, "data_sha256": one.data, "provenance": origin}
        write_json(paths.statistics_record(name, tmp_path), record)
    return tmp_path


def graded(cell, task):
    if task == "gsm-mini":
        return tabled.graded(cell, task)
    nats = [NATS.get(cell.method, 1.0) + 0.001 * (item % 2) for item in range(tabled.ITEMS)]
    return {"paper": (nats, fmean(nats)), "perplexity": (nats, math.exp(fmean(nats)))}


def trained(sweep, cell):
    """A record of a training."""
    steps = STEPS.get(cell.method, 220)
    return {
        "spec": sweep.train_spec(cell), "base": {"fingerprint": "f"}, "data_sha256": cell.data, "steps": steps,
        "train_seconds": steps * (STEP[cell.method] + UNEVEN.get(cell.method, 0) * (cell.seed - 1)),
        "batch": {"effective": 16}, "update": UPDATE.get(cell.method, 0.5 + 0.1 * cell.seed),
        "final_loss": 0.5, "provenance": {"hardware": MACHINE},
    }  # fmt: skip


def shown(folder, config):
    """The rows of the CSV by (method, quant), and the Markdown."""
    sweep = Sweep(config)
    table = output(sweep, "table", "extra/baselines").exhibit.make(sweep, folder)
    save(table, folder / "out.csv")
    with open(folder / "out.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {(row["config_method"], row["quant"]): row for row in rows}, table.markdown


def test_what_a_row_has_cost(folder, config):
    rows, text = shown(folder, config)
    assert list(rows) == CELLS
    lora, pissa, eva = rows["lora", "none"], rows["pissa", "none"], rows["eva", "none"]
    numbers = [float(pissa[key]) for key in ("step_to_lora_low", "step_to_lora", "step_to_lora_high", "step_seconds")]
    assert numbers == [1.45, 1.5, 1.55, 3]
    assert (lora["step_to_lora"], lora["start_seconds"], pissa["start_seconds"]) == ("1", "11", "10")
    assert (eva["statistics_seconds"], eva["statistics_memory_gib"], pissa["statistics_seconds"]) == ("77", "3", "")
    assert (pissa["update"], rows["untrained", "none"]["update"]) == ("0.6", "1e-07")
    assert rows["untrained", "none"]["step_to_lora"] == ""  # of another number of steps
    assert "| 1.50 [1.45, 1.55] |" in text and "those of LoRA or QLoRA on the same base" in text


def test_what_is_forgotten_is_counted_from_the_row_that_has_not_moved(folder, config):
    rows, text = shown(folder, config)
    pissa, quantized, untrained = (rows[key] for key in (("pissa", "none"), ("lora", "nf4"), CELLS[0]))
    assert float(pissa["forgotten"]) == pytest.approx(0.5) and float(quantized["forgotten"]) == pytest.approx(0.25)
    assert float(pissa["text_score_before"]) == float(untrained["text_score"]) == pytest.approx(1.0005)
    assert float(pissa["perplexity"]) == pytest.approx(math.exp(1.5005), rel=1e-5)
    assert untrained["forgotten"] == "" and "pre-training text (held out)" in text
    assert "Forgotten: nats per token" in text and "{" not in text


def test_without_such_a_row_nothing_is_said_to_be_forgotten(folder, config):
    changed = {**config, "sweep": {**config["sweep"], "cells": config["sweep"]["cells"][1:]}}
    rows, text = shown(folder, changed)
    assert {row["forgotten"] for row in rows.values()} == {""} and rows["pissa", "none"]["perplexity"]
    assert "Forgotten" not in text


@pytest.fixture
def with_bases(folder, config):
    """The sweep with both bases as they are in place of the row that has not moved, and its records in the folder."""
    changed = {**config, "sweep": {**config["sweep"], "cells": config["sweep"]["cells"][1:], "bases": ["none", "nf4"]}}
    make(folder, changed, table="gsm8k", scored=graded)
    return changed


def test_what_is_forgotten_is_counted_from_the_base_as_it_is(folder, with_bases):
    rows, text = shown(folder, with_bases)
    assert list(rows)[:2] == [("base-none", "none"), ("base-nf4", "nf4")]
    base, pissa = rows["base-none", "none"], rows["pissa", "none"]
    assert float(pissa["text_score_before"]) == float(base["text_score"]) == pytest.approx(1.0005)
    assert float(pissa["forgotten"]) == pytest.approx(0.5) and base["forgotten"] == base["update"] == ""
    assert "| base model | none |" in text and "before any training, asked by the same prompt" in text


def test_the_figure_has_a_row_for_each_method_below_its_base(folder, with_bases):
    axes = drawn("baselines_figure", Sweep(with_bases), folder).axes
    labels = [label.get_text() for label in axes[0].get_yticklabels()]
    assert labels[0] == "plain base" and labels[4:] == ["base: nf4", "QLoRA"]
    assert {*labels[1:4]} == {"LoRA", "PiSSA", "EVA"}
    scores = [line.get_xdata()[0] for line in axes[1].lines if line.get_linestyle() == ":"]
    assert len(scores) == 4, "the score of its base beside each row"


def test_forgetting_has_a_point_for_each_row_that_moved(folder, with_bases):
    (axes,) = drawn("forgetting", Sweep(with_bases), folder).axes
    points = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if len(line.get_xdata()) == 1]
    assert [x for x, _ in points] == pytest.approx([0.6] * 4)
    assert sorted(y for _, y in points) == pytest.approx([0, 0.25, 0.25, 0.5], abs=1e-9)
    assert axes.get_xscale() == "log"


def test_a_record_of_before_has_no_size_and_another_machine_no_ratio(folder, config):
    """An older training's record is read as it is; times of two machines are not compared."""
    old, moved = ([cell for cell in Sweep(config).cells.values() if name == cell.method] for name in ("pissa", "eva"))
    for cell in (*old, *moved):
        path = paths.cell(cell.name, folder).train
        record = read_json(path)
        if cell in old:
            del record["update"]
        else:
            record["provenance"]["hardware"] = {**MACHINE, "processor": "other"}
        write_json(path, record)
    rows, _ = shown(folder, config)
    assert (rows["pissa", "none"]["update"], rows["eva", "none"]["step_to_lora"]) == ("", "")
    assert rows["pissa", "none"]["step_to_lora"] and rows["eva", "none"]["update"]


@pytest.mark.parametrize("kind", ["train", "start", "statistics"])
def test_a_record_of_other_weights_is_refused(folder, config, kind):
    sweep = Sweep(config)
    cell = next(cell for cell in sweep.cells.values() if cell.seen)
    (name,) = sweep.known(cell)
    path = {
        "train": paths.cell(cell.name, folder).train,
        "start": paths.start_record(cell.start, folder),
        "statistics": paths.statistics_record(name, folder),
    }[kind]
    write_json(path, read_json(path) | {"base": {"fingerprint": "other"}})
    with pytest.raises(UserError, match="other weights"):
        shown(folder, config)


def test_it_is_of_sweeps_with_a_text_beside_another_task(config):
    def needs(tasks):
        sweep = Sweep({**config, "sweep": {**config["sweep"], "tasks": tasks}})
        return output(sweep, "table", "extra/baselines").exhibit.needs(sweep)

    assert needs(["gsm-mini"]) == needs(["held-out-text"]) == []
    found = needs(["gsm-mini", "held-out-text"])
    assert len(found) == len(set(found)) == 1 + 3 * len(CELLS) * 3 + (3 + 3 + 1 + 1 + 3) + 1


def test_every_method_of_the_package_is_in_the_config():
    from pissa_repro import methods

    sweep = Sweep(load(ROOT / "config" / "config.yaml", ROOT / "config" / "baselines.yaml"))
    assert {sweep.definition(cell.method)["init"] for cell in sweep.cells.values()} == set(methods.names())
    search = Sweep(load(*(ROOT / "config" / f"{name}.yaml" for name in ("config", "baselines", "baselines_search"))))
    assert {c.method for c in search.cells.values()} == {c.method for c in sweep.cells.values()}


def test_every_rate_of_the_config_is_the_one_that_the_kept_search_chose():
    sweep = Sweep(load(ROOT / "config" / "config.yaml", ROOT / "config" / "baselines.yaml"))
    kept, chosen = ROOT / "docs/reproduction/baselines", {}
    for name in ("rates.csv", "rates_high.csv"):
        with open(kept / name, encoding="utf-8", newline="") as file:
            chosen |= {(row["config_method"], row["quant"]): float(row["chosen"]) for row in csv.DictReader(file)}
    taken = {(c.method, c.quant): c.learning_rate for c in sweep.cells.values() if c.method != "untrained"}
    assert taken == {setting: rate for setting, rate in chosen.items() if setting[0] != "untrained"}


def test_the_rate_of_the_lowest_loss_is_chosen(tmp_path, config):
    losses, falling = {1e-3: 0.4, 3e-3: 0.3, 1e-2: 0.5}, {"eva": {1e-3: 0.1, 3e-3: 0.2, 1e-2: 0.3}}
    changed = {**config, "overrides": []}
    changed["sweep"] = {**config["sweep"], "learning_rates": list(losses), "seeds": [7]}
    sweep = Sweep(changed)
    write_json(paths.model("mini-llama", tmp_path), {"fingerprint": "f"})
    write_json(paths.data("gsm-mini-2560", tmp_path), {"sha256": "gsm-mini-2560"})
    for cell in sweep.cells.values():
        loss = falling.get(cell.method, losses)[cell.learning_rate]
        write_json(paths.cell(cell.name, tmp_path).train, trained(sweep, cell) | {"final_loss": loss})
    table = output(sweep, "table", "extra/rates").exhibit.make(sweep, tmp_path)
    assert [(row["config_method"], row["chosen"], row["at the edge"]) for row in table.rows] == [
        ("untrained", 3e-3, False), ("lora", 3e-3, False), ("pissa", 3e-3, False), ("eva", 1e-3, True),
        ("lora", 3e-3, False),
    ]  # fmt: skip
    assert table.rows[0]["loss at 0.01"] == 0.5 and rates.CAPTION in table.markdown
    one = Sweep(config)
    assert output(one, "table", "extra/rates").exhibit.needs(one) == []
