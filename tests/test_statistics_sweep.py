"""Statistics in a sweep: refusals of config and plan, shared jobs, starts made from them, ranks of modules."""

import dataclasses
import json
import shutil

import pytest
import seen
import torch
import yaml
from helpers import Run, config
from plugged import plugged
from safetensors.torch import load_file, save_file
from stage import LLAMA, says
from starting import relative
from test_plugins import checkout, dry_run, run  # noqa: F401 (checkout is a fixture)

from pissa_repro import methods
from pissa_repro.model import factors
from pissa_repro.plan import admission
from pissa_repro.plan.config import ROOT
from pissa_repro.plan.sweep import Sweep
from pissa_repro.results import conditions
from pissa_repro.runtime.record import read_json, write_lines
from pissa_repro.starts import byhand, ranks
from pissa_repro.starts.statistics import Known


@pytest.fixture(scope="module", autouse=True)
def thrown_away(tmp_path_factory):
    """Two methods that see data, and one that gives modules ranks of their own as well."""
    with plugged(tmp_path_factory.mktemp("methods"), seen.FILES):
        yield


def swept(tiny_model, tiny_rows, *methods_, statistics=None, **changes):
    """A sweep of these methods, each with the same `statistics`."""
    made = config(tiny_model, tiny_rows, "seen", "none", **changes)
    own = {"statistics": statistics} if statistics else {}
    made["methods"] = {name: {"init": name, "display": name, **own} for name in methods_}
    made["sweep"]["cells"] = [{"method": name, "quant": "none"} for name in methods_]
    made["datasets"]["others"] = {**made["datasets"]["rows"], "rows": 9}
    made["datasets"]["bare"] = {**made["datasets"]["rows"], "fields": {"prompt": "prompt"}}
    return made


def names(made):
    return list(Sweep(made).statistic_jobs)


def test_methods_that_ask_for_the_same_share_one_job(tiny_model, tiny_rows):
    (one,) = names(swept(tiny_model, tiny_rows, "seen", "spread", "lora"))
    assert one.startswith("tiny/rows/covariance-n6-s0-")
    both = names(swept(tiny_model, tiny_rows, "seen", "steep"))
    assert one in both and len(both) == 2
    changes = ({"statistics": {"seed": 1}}, {"statistics": {"data": "others"}}, {"max_length": 64}, {"prompt": "plain"})
    others = [name for change in changes for name in names(swept(tiny_model, tiny_rows, "seen", **change))]
    assert len({one, *others}) == 1 + len(changes)
    assert names(swept(tiny_model, tiny_rows, "seen", statistics={"rows": 6}, rank=7)) == [one]


def test_specs_and_names_of_other_methods_stay(tiny_model, tiny_rows):
    sweep = Sweep(swept(tiny_model, tiny_rows, "lora", "seen"))
    lora, other = sweep.cells.values()
    assert "statistics" not in sweep.init_spec(lora) and lora.start == "tiny/lora-none-r4-s0"
    assert other.start == "tiny/seen-none-r4-s0-rows"
    (spec,) = sweep.init_spec(other)["statistics"].values()
    assert spec == {
        "stage": "statistics", "version": 1, "kind": "covariance", "rows": 6, "seed": 0, "max_length": 256,
        "target_modules": LLAMA,
    }  # fmt: skip


def test_what_a_start_has_seen_is_its_method_and_no_other_condition(tiny_model, tiny_rows):
    """`pissa compare` of a method that sees data with one that does not warns of nothing."""
    sweep = Sweep(swept(tiny_model, tiny_rows, "lora", "seen"))
    one, other = (dict(conditions._settings(sweep.train_spec(cell))) for cell in sweep.cells.values())
    assert one == other


def test_what_makes_no_sense_is_refused_in_the_dry_run(tiny_model, tiny_rows):
    def refused(*words, method="seen", **statistics):
        says(lambda: Sweep(swept(tiny_model, tiny_rows, method, statistics=statistics)), *words)

    refused("config.methods.seen.statistics", "0", rows=0)
    refused("config.methods.seen.statistics", "others", data="other")
    refused("config.datasets.bare.fields", "response", "config.methods.seen.statistics", data="bare")
    refused("config.methods.seen.statistics.rows", "draws 10 rows", "'others' has at most 9", data="others", rows=10)
    refused("config.methods.lora.statistics", "starts without data", method="lora", rows=2)
    made = swept(tiny_model, tiny_rows, "seen") | {"studies": {"methods": ["seen"]}}
    says(lambda: Sweep(made), "config.studies.methods", "seen")


@pytest.mark.parametrize("given", [{"curvature": {"rows": 2}}, {"covariance": {}}, {"gradient": {"rows": 0}}])
def test_a_file_that_asks_for_other_statistics_is_not_whole(given):
    module = type("module", (), {"start": None, "STATISTICS": given})
    assert "STATISTICS" in methods._complaint(module)


def test_rows_that_only_a_start_sees_are_admitted(tiny_model, tiny_rows):
    sweep = Sweep(swept(tiny_model, tiny_rows, "seen", statistics={"data": "others"}))
    found = admission.spec(sweep, "sweep", "tiny")["training"]
    assert found == [{"rows": "rows", "max_length": 256}, {"rows": "others", "max_length": 256}]


@pytest.fixture
def cell(tmp_path, tiny_model, tiny_rows):
    return Run(tmp_path / "run", tiny_model, tiny_rows, "seen")


def test_a_start_is_made_from_statistics_of_the_rows_that_are_drawn(cell):
    (folder,) = cell.known()
    made, record = read_json(folder / "statistics.json"), cell.start_from(folder)
    assert made["lengths"]["examples"] == 6 and set(made["tokens"].values()) == {made["lengths"]["tokens"]}
    assert made["resumed_modules"] == 0 and made["provenance"]["seconds"] > 0
    assert record["data_sha256"] == made["data_sha256"] and record["spec"]["statistics"]["covariance"] == made["spec"]
    (name, a), *_ = factors.load(cell.start, read_json(cell.model)).A.items()
    covariance = load_file(folder / f"{name}.safetensors")["covariance"]
    values = torch.linalg.eigvalsh(covariance)[-4:]
    assert relative(a @ covariance @ a.mT, torch.diag(values)) < 1e-4


def test_work_on_statistics_that_is_killed_goes_on(cell, monkeypatch):
    (folder,) = cell.known()
    whole = {path.name: load_file(path) for path in folder.glob("*.safetensors")}
    shutil.rmtree(folder)
    from pissa_repro.starts import statistics

    honest, calls = statistics._write, []

    def write(path, *rest):
        if len(calls) == 9:
            raise KeyboardInterrupt
        calls.append(path.name)
        honest(path, *rest)

    monkeypatch.setattr(statistics, "_write", write)
    with pytest.raises(KeyboardInterrupt):
        cell.known()
    assert not folder.exists()
    calls.clear()
    monkeypatch.setattr(statistics, "_write", lambda path, *rest: (calls.append(path.name), honest(path, *rest)))
    cell.known()
    assert read_json(folder / "statistics.json")["resumed_modules"] == 9 and len(calls) == len(whole) - 7
    for name, tensors in whole.items():
        assert torch.equal(load_file(folder / name)["covariance"], tensors["covariance"])


def test_statistics_that_do_not_fit_a_start_are_refused(cell, tmp_path, tiny_model):
    (folder,) = cell.known()
    says(cell.known, "exists already")
    says(cell.start_from, "--statistics", "covariance")
    one = next(iter(sorted(folder.glob("*.safetensors"))))
    good = one.read_bytes()

    def refused(*words):
        says(lambda: cell.start_from(folder), one.name.removesuffix(".safetensors"), *words)

    save_file({"covariance": torch.full((2, 2), torch.nan)}, one, {"tokens": "99"})
    refused("NaN")
    save_file({"covariance": torch.eye(64)}, one, {"tokens": "3"})
    refused("3 tokens", "rank 4")
    one.write_bytes(good[:50])
    refused("damaged")
    one.unlink()
    refused("holds no covariance")
    says(lambda: Known([folder, folder], read_json(cell.model)["fingerprint"]), "kind 'covariance'")
    says(lambda: Known([folder], "0" * 64), "another model")


def test_fewer_rows_than_are_drawn_are_refused(cell, tmp_path):
    cell.rows = tmp_path / "few.jsonl"
    write_lines(cell.rows, [{"prompt": "a", "response": "b"}] * 5)
    says(cell.known, "6 rows are drawn", "the dataset has 5")


def test_modules_get_ranks_of_their_own_and_keep_their_scaling(tmp_path, tiny_model, tiny_rows):
    run_ = Run(tmp_path / "run", tiny_model, tiny_rows, "spread", alpha=6.0)
    record = run_.start_from(*run_.known())
    made = factors.load(run_.start, read_json(run_.model))
    assert {len(a) for a in made.A.values()} == {3, 5}
    assert {name: facts["rank"] for name, facts in record["modules"].items()} == {n: len(a) for n, a in made.A.items()}
    assert all(made.scaling(name) == pytest.approx(6 / 4) for name in made.A)


def test_ranks_that_make_no_sense_are_refused(monkeypatch):
    shapes = {"a": (8, 4), "b": (8, 8)}
    spec = {"method": "spread", "options": {}, "rank": 2, "alpha": 2.0, "rslora": False}
    modules, summaries = dict.fromkeys(shapes, spec), {name: torch.ones(1) for name in shapes}
    for given, words in (
        ({"a": 2}, "other modules than those of the model, such as b"),
        ({"a": 5, "b": 1}, r"gives 5: a (8, 4) has ranks from 1 to 4"),
        ({"a": 4, "b": 0}, "gives 0: b (8, 8)"),
        ({"a": 2.0, "b": 2}, "gives 2.0: a"),
        ({"a": 4, "b": 2}, "mean 3.00; the cell's is 2"),
    ):
        monkeypatch.setattr(methods.load("spread"), "ranks", lambda *_, given=given: given)
        says(lambda: ranks.spread(modules, summaries, shapes), "method spread", words)
    assert ranks.spread(modules, {"a": None, "b": None}, shapes) == modules
    monkeypatch.setattr(methods.load("spread"), "ranks", lambda *_: {"a": 1, "b": 3})
    found = ranks.spread({name: {**one, "rslora": True} for name, one in modules.items()}, summaries, shapes)
    assert all(factors.scaling(s["alpha"], s["rank"], True) == pytest.approx(2 / 2**0.5) for s in found.values())


def test_the_workflow_measures_once_for_two_methods(checkout, tiny_model):  # noqa: F811
    """A dry run of two methods with one statistics job, and a run up to one start."""
    for name in ("seen", "spread"):
        seen.put(checkout, name)
    cells = [{"method": name, "quant": "none"} for name in ("seen", "spread")]
    own = {
        "datasets": {"gsm-mini-train": {"rows": 8}},
        "models": {"mine": {"path": str(tiny_model)}},
        "sweep": {"models": ["mine"], "cells": cells, "ranks": [4], "seeds": [0]},
    }
    (checkout / "mine.yaml").write_text(yaml.safe_dump(own), encoding="utf-8")
    code, said = dry_run(checkout)
    assert code == 0, said[-2000:]
    counts = dict(line.split() for line in said.splitlines() if line.startswith(("statistics ", "init ")))
    assert counts == {"statistics": "1", "init": "2"}
    shutil.copy(ROOT / "environment.yml", checkout)
    start = "results/init/mine/spread-none-r4-s0-gsm-mini-train"
    code, said = run(checkout, "-m", "snakemake", "--cores", "1", start, "--configfile", "mine.yaml")
    assert code == 0, said[-3000:]
    (record,) = (checkout / "results/statistics/mine/gsm-mini-train").glob("*/statistics.json")
    wanted = json.loads((checkout / start / "init.json").read_text(encoding="utf-8"))
    assert read_json(record)["spec"] == wanted["spec"]["statistics"]["covariance"]


def test_a_disk_without_room_is_told_before_the_weights_are_read(cell, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 0, 9))
    says(cell.known, "needs", "9 are free")


def test_by_hand_a_start_from_statistics_is_that_of_the_sweep(cell, tmp_path):
    (folder,) = cell.known()
    cell.start_from(folder)
    base, spec = read_json(cell.model), cell.init_spec
    hand = byhand.Asked("seen", "none", [4], None, False, None, None, 0, spec["target_modules"], [folder])
    byhand.decompose(base, hand, tmp_path / "hand", tmp_path / "scratch")
    assert factors.sha256(tmp_path / "hand") == factors.sha256(cell.start)
    assert read_json(tmp_path / "hand/init.json")["spec"]["statistics"] == spec["statistics"]
    without, spread = dataclasses.replace(hand, statistics=[]), dataclasses.replace(hand, method="spread", quant="nf4")
    says(
        lambda: byhand.decompose(base, without, tmp_path / "no", tmp_path), "--method seen", "covariance", "gives none"
    )
    says(lambda: byhand.errors(base, spread, tmp_path), "--method spread", "a rank of its own", "--factors")
