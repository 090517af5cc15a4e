"""Folders that move: what comes after fetch depends on the bits of a model and of rows, never on where they are."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tiny import save_tiny_model

from pissa_repro.plan import sweep as plan
from pissa_repro.plan.batches import Batches
from pissa_repro.plan.config import load
from pissa_repro.runtime import paths
from pissa_repro.runtime.record import read_json, write_json

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
CHEAP_STAGES = """#!/bin/sh
case "$2" in *.fetch | *.admit) exec "{python}" "$@" ;; esac
echo "${{2##*.}}" >> "{ran}"
exit 1
"""
ROWS = "".join(f'{{"q": "{n} + 1?", "a": "{n + 1}"}}\n' for n in range(8))
CELLS = [{"method": "pissa", "quant": "nf4"}, {"method": "full", "quant": "none"}]
CHEAP = {"collect", "table", "figure", "all"}  # they read the config, whose words a move has changed


class Sweep:
    """A finished sweep of two cells: its outputs are empty, and any stage after fetch and admit is noted and fails."""

    def __init__(self, folder: Path):
        self.folder, self.work, self.ran = folder, folder / "work", folder / "ran"
        save_tiny_model(folder / "model")
        (folder / "rows.jsonl").write_text(ROWS, encoding="utf-8")
        self.place(folder / "model", folder / "rows.jsonl")
        stub = folder / "bin" / "python"
        for path in (self.work, stub.parent):
            path.mkdir()
        stub.write_text(CHEAP_STAGES.format(python=sys.executable, ran=self.ran), encoding="utf-8")
        stub.chmod(0o755)
        outputs = re.findall(r"^((?:results|figures)/[^\t\n]+)\t", self.run("all", "--summary"), re.MULTILINE)
        for path in map(self.work.joinpath, outputs):
            is_folder = path.name == "trained" or "results/init/" in path.as_posix()
            path.mkdir(parents=True) if is_folder else path.parent.mkdir(parents=True, exist_ok=True)
            if not is_folder:
                path.write_text("{}", encoding="utf-8")
        self.run("--until", "fetch_model", "fetch_data", "--forcerun", "fetch_model", "fetch_data", "--cores", "1")
        self.record()
        self.run("all", "--touch", "--forceall", "--cores", "1")
        self.scores = [path for path in outputs if "/eval/" in path]

    def record(self) -> None:
        """Let the records of starts, trainings and the batch say what a real sweep writes: what they were made from."""
        results, sweep = (
            self.work / "results",
            plan.Sweep(load(ROOT / "config" / "config.yaml", self.folder / "moved.yaml")),
        )
        base = {"base": {"fingerprint": read_json(paths.model("mini-llama", results))["fingerprint"]}}
        rows = {"data_sha256": read_json(paths.data("gsm-mini-train", results))["sha256"]}
        for name, cell in sweep.starts.items():
            write_json(paths.start_record(name, results), base | {"spec": sweep.init_spec(cell)})
        for name, cell in sweep.cells.items():
            write_json(paths.cell(name, results).train, base | rows | {"spec": sweep.train_spec(cell)})
        batches = Batches(sweep)
        for name in {batches.name_of(cell, "gsm-mini") for cell in sweep.cells}:
            scored = {"gsm-mini-test": read_json(paths.data("gsm-mini-test", results))["sha256"]}
            write_json(paths.batch(name, results), base | {"data_sha256": scored, "spec": batches.spec(name)})

    def place(self, model: Path, rows: Path) -> None:
        """Let the config say where the model and the rows are."""
        fields = {"fields": {"prompt": "q", "response": "a"}, "response_format": "plain", "rows": 8}
        changes = {
            "models": {"mini-llama": {"path": str(model)}},
            "datasets": {"gsm-mini-train": {"path": str(rows), **fields}, "gsm-mini-test": {"rows": 4}},
            "sweep": {
                "seeds": [0],
                "cells": [{"method": "pissa", "quant": "nf4"}, {"method": "full", "quant": "none"}],
            },
        }
        (self.folder / "moved.yaml").write_text(yaml.safe_dump(changes), encoding="utf-8")

    def run(self, *arguments: str, fails: bool = False) -> str:
        """What snakemake says; it ends well unless it `fails`."""
        command = [BIN / "snakemake", "-s", ROOT / "Snakefile", "-d", self.work, *arguments]
        environment = os.environ | {"PATH": f"{self.folder / 'bin'}:{BIN}:{os.environ['PATH']}"}
        done = subprocess.run(
            [*command, "--configfile", self.folder / "moved.yaml"],
            capture_output=True,
            encoding="utf-8",
            env=environment,
        )
        assert bool(done.returncode) == fails, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout + done.stderr

    def would_run(self, *targets: str) -> set[str]:
        """The rules that a dry run would run."""
        text = self.run("-n", *(targets or ["all"]))
        found = set(re.findall(r"^(?:local)?(?:rule|checkpoint) (\w+):$", text, re.MULTILINE))
        assert bool(found) != ("Nothing to be done" in text), text[-2000:]
        return found

    def run_stages(self, fails: bool) -> set[str]:
        """The stages after fetch and admit that a run for all scores begins."""
        self.ran.unlink(missing_ok=True)
        self.run("--cores", "1", *self.scores, fails=fails)
        return set(self.ran.read_text(encoding="utf-8").split()) if self.ran.exists() else set()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The sweep, to be copied."""
    return Sweep(tmp_path_factory.mktemp("finished").resolve())


@pytest.fixture
def sweep(finished):
    """The finished sweep; what a test did to it is undone."""
    kept = finished.folder.with_name("kept")
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(finished.folder, kept)
    yield finished
    shutil.rmtree(finished.folder)
    kept.rename(finished.folder)
    finished.work = finished.folder / "work"


def test_a_results_folder_at_another_depth_makes_nothing_again(sweep):
    """Case 20: with Snakemake's memory of it, as `mv` moves both."""
    (sweep.folder / "a" / "b").mkdir(parents=True)
    sweep.work = sweep.work.rename(sweep.folder / "a" / "b" / "work")
    assert sweep.would_run() == set()


def test_a_model_that_moved_retrains_nothing(sweep):
    """Case 20: the same bits in another folder, newer; then one bit is another."""
    shutil.copytree(sweep.folder / "model", sweep.folder / "moved", copy_function=shutil.copy)
    shutil.rmtree(sweep.folder / "model")
    sweep.place(sweep.folder / "moved", sweep.folder / "rows.jsonl")
    assert sweep.run_stages(fails=False) == set()
    assert sweep.would_run() == CHEAP
    weights = sweep.folder / "moved" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert sweep.run_stages(fails=True) == {"init", "train"}, "of both cells, in the run that fetched it"
    assert sweep.would_run(*sweep.scores) == {"init", "train", "generate", "evaluate"}


def test_rows_that_moved_retrain_nothing(sweep):
    """Case 20: the same lines in another file, newer; then one line is another."""
    moved = sweep.folder / "deep" / "rows.jsonl"
    moved.parent.mkdir()
    moved.write_text((sweep.folder / "rows.jsonl").read_text(encoding="utf-8"), encoding="utf-8")
    (sweep.folder / "rows.jsonl").unlink()
    sweep.place(sweep.folder / "model", moved)
    assert sweep.run_stages(fails=False) == set()
    assert sweep.would_run() == CHEAP
    moved.write_text(ROWS.replace("1 + 1?", "1 + one?"), encoding="utf-8")
    assert sweep.run_stages(fails=True) == {"train"}
    assert sweep.would_run(*sweep.scores) == {"train", "generate", "evaluate"}


def test_a_record_of_fetching_that_is_damaged_is_named(sweep):
    """Case 20: what was fetched decides, so it has to be known."""
    (sweep.work / "results" / "fetch" / "models" / "mini-llama.json").write_text("{", encoding="utf-8")
    assert "mini-llama.json: not a complete record" in sweep.run("-n", "all", fails=True)
