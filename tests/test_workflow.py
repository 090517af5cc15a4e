"""The workflow as a user runs it: checks, dry runs, and a whole tiny sweep with a kill in it."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from commands import pissa

from pissa_repro.runtime import paths
from pissa_repro.runtime.record import read_json

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
TINY = {
    "datasets": {"gsm-mini-train": {"rows": 96}, "gsm-mini-test": {"rows": 8}},
    "tasks": {
        "gsm-mini": {"max_new_tokens": 8},
        "gsm-mini-long": {"task": "gsm8k", "dataset": "gsm-mini-test", "max_new_tokens": 12},
    },
    "sweep": {"ranks": [4], "seeds": [0]},
}
PAIRS = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))["sweep"]["cells"]


def snakemake(*arguments: str, folder: Path = ROOT, check: bool = True) -> subprocess.CompletedProcess:
    """Run snakemake on the project's Snakefile in a folder of its own."""
    command = [BIN / "snakemake", "-s", ROOT / "Snakefile", "-d", folder, *arguments]
    environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment)
    assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def jobs(done: subprocess.CompletedProcess) -> dict[str, int]:
    """The job counts of a dry run, by rule."""
    table = re.search(r"Job stats:\njob +count\n[- ]+\n(.*?)\n\n", done.stdout + done.stderr, re.DOTALL)
    return {} if table is None else {name: int(n) for name, n in re.findall(r"^(\w+) +(\d+)$", table[1], re.MULTILINE)}


def config(folder: Path, **sweep: list) -> str:
    """The tiny config with another sweep, written to the folder."""
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY | {"sweep": TINY["sweep"] | sweep}), encoding="utf-8")
    return str(path)


def dry(folder: Path, **sweep: list) -> dict[str, int]:
    found = jobs(snakemake("-n", "results/scores.csv", "--configfile", config(folder, **sweep), folder=folder))
    found.pop("total", None)
    return found


def kill_first_training(folder: Path, running: subprocess.Popen) -> None:
    """Wait for the first training to have started, and kill it the hard way."""
    while running.poll() is None:
        for entry in Path("/proc").iterdir():
            try:
                line = (entry / "cmdline").read_bytes().decode().split("\0") if entry.name.isdigit() else []
                mine = os.readlink(entry / "cwd") == str(folder) if line else False
            except OSError:
                continue
            if mine and "pissa_repro.stages.train" in line and line[0].endswith("python"):
                os.kill(int(entry.name), signal.SIGKILL)
                return
        time.sleep(0.05)
    pytest.fail("no training was started")


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A folder with a finished tiny sweep of the six cells; its first training was killed with SIGKILL."""
    folder = tmp_path_factory.mktemp("sweep").resolve()
    command = [BIN / "snakemake", "-s", ROOT / "Snakefile", "-d", folder, "--cores", "2", "all"]
    environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}
    with open(folder / "first.log", "w", encoding="utf-8") as log:
        running = subprocess.Popen(
            [*command, "--configfile", config(folder)], stdout=log, stderr=subprocess.STDOUT, env=environment
        )
        kill_first_training(folder, running)
        assert running.wait() != 0, "a killed training must not pass"
    assert not (folder / "results" / "scores.csv").exists()
    finished = {path: path.stat().st_mtime_ns for path in folder.glob("results/cells/*/*/*/train.json")}
    assert len(finished) == 5, "one failed cell must not stop the others"
    assert all(read_json(path)["provenance"]["preloaded"] for path in finished), "each has imported for itself"
    snakemake("--cores", "2", "all", "--configfile", config(folder), folder=folder)
    assert all(path.stat().st_mtime_ns == then for path, then in finished.items()), "nothing finished is done again"
    return folder


def test_the_table_has_the_six_rows(swept):
    table = pd.read_csv(swept / "results" / "gsm8k_table.csv")
    assert list(table["method"]) == ["full FT", "LoRA", "PiSSA", "QLoRA", "LoftQ", "QPiSSA"]
    assert set(table["benchmark"]) == {"gsm-mini (generated)"}
    assert (table["verdict"] == "not comparable").all()
    assert table["error_reduction_percent"].notna().tolist() == [False, False, False, True, True, True]


def test_the_figures_are_drawn(swept):
    for place in ("paper/figure4a", "paper/figure4b", "extra/accuracy"):
        assert (swept / paths.figure(place)).stat().st_size > 2000
        assert (swept / paths.figure(place, "png")).read_bytes()[:4] == b"\x89PNG"


def test_a_second_run_does_nothing(swept):
    done = snakemake("-n", "all", "--configfile", config(swept), folder=swept)
    assert "Nothing to be done" in done.stdout + done.stderr


def test_halves_of_it_are_joined_and_only_collected(swept, tmp_path):
    """As made on two machines, one of which has no PiSSA and the other nothing else."""
    halves = [tmp_path / half / "results" for half in "ab"]
    for half, others in zip(halves, ("pissa-*-lr*", "[!p]*-lr*-s*"), strict=True):
        shutil.copytree(swept / "results", half, ignore=shutil.ignore_patterns(others))
    pissa("join", *halves, "--out", tmp_path / "results")
    assert dry(tmp_path) == {"collect": 1}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"ranks": [4, 8]},
            {"admit": 1, "init": 5, "quant_error": 3, "train": 5, "generate": 1, "evaluate": 5, "collect": 1},
        ),
        ({"seeds": [0, 1]}, {"init": 2, "quant_error": 1, "train": 6, "generate": 1, "evaluate": 6, "collect": 1}),
        ({"learning_rates": [3e-3, 1e-3]}, {"train": 6, "generate": 1, "evaluate": 6, "collect": 1}),
        # a batch that grows is scored whole again, from what was kept: seconds, no model
        ({"tasks": ["gsm-mini", "gsm-mini-long"]}, {"admit": 1, "generate": 1, "evaluate": 12, "collect": 1}),
        (
            {"cells": [*PAIRS, {"method": "milora", "quant": "none"}]},
            {"init": 1, "train": 1, "generate": 1, "evaluate": 7, "collect": 1},
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_longer_sweep_runs_only_what_is_new(swept, change, expected):
    """A new rank leaves full fine-tuning alone; a new seed makes new factors for random starts only.

    Case 14: what is asked of the model anew is checked again, and trains nothing that is finished.
    """
    assert dry(swept, **change) == expected


def test_a_setting_of_a_task_may_go_and_come_back(swept):
    """What was generated with another setting is kept beside: going back scores again, and generates nothing."""
    path, cells = Path(config(swept)), "results/cells/mini-llama/gsm-mini-train/pissa-none-r4-lr0.003-s0"
    kept = {p: p.read_bytes() for p in (swept / cells / "generated").iterdir()}
    target = f"{cells}/eval/gsm-mini.json"
    for tokens in (9, 8):
        path.write_text(yaml.safe_dump(TINY | {"tasks": {"gsm-mini": {"max_new_tokens": tokens}}}), encoding="utf-8")
        snakemake("--cores", "2", target, "--configfile", str(path), folder=swept)
        assert f'"max_new_tokens": {tokens}' in (swept / target).read_text(encoding="utf-8")
    assert {p: p.read_bytes() for p in kept} == kept
    snakemake("--cores", "2", "all", "--configfile", config(swept), folder=swept)


def test_what_was_generated_and_then_deleted_is_said(swept):
    """With the way out: the record of the batch is deleted, and the same command makes both again."""
    cell = swept / "results/cells/mini-llama/gsm-mini-train/lora-none-r4-lr0.003-s0"
    (kept,) = (
        path for path in (cell / "generated").iterdir() if '"max_new_tokens": 8' in path.read_text(encoding="utf-8")
    )
    before = kept.read_text(encoding="utf-8").count('"id"')
    kept.unlink()
    (cell / "eval" / "gsm-mini.json").unlink()
    argv = ["--cores", "2", str((cell / "eval" / "gsm-mini.json").relative_to(swept)), "--configfile", config(swept)]
    done = snakemake(*argv, folder=swept, check=False)
    assert done.returncode and "Delete the record of its batch in results/generated" in done.stdout + done.stderr
    for mark in (swept / "results" / "generated").rglob("*.json"):
        mark.unlink()
    snakemake(*argv, folder=swept)
    assert kept.read_text(encoding="utf-8").count('"id"') == before
    snakemake("--cores", "2", "all", "--configfile", config(swept), folder=swept)


def test_scores_are_made_again_without_the_weights(swept):
    """Which `pissa clean` removes: what was generated with them is all that a score is made of."""
    weights = swept / "results/cells/mini-llama/gsm-mini-train/full-none-r0-lr0.003-s0/trained"
    away = weights.rename(swept / "away")
    done = snakemake("-n", "results/scores.csv", "-R", "evaluate", "--configfile", config(swept), folder=swept)
    away.rename(weights)
    assert jobs(done) == {"evaluate": 6, "collect": 1, "total": 7}


def test_a_changed_recipe_trains_again(swept):
    path = Path(config(swept))
    path.write_text(yaml.safe_dump(TINY | {"train": {"weight_decay": 0.1}}), encoding="utf-8")
    found = jobs(snakemake("-n", "results/scores.csv", "--configfile", str(path), folder=swept))
    assert (found["train"], found["evaluate"], "init" in found) == (6, 6, False)


def test_collect_refuses_the_records_of_another_config(swept, tmp_path):
    from pissa_repro.plan import config as configs
    from pissa_repro.runtime.errors import UserError
    from pissa_repro.runtime.record import canonical
    from pissa_repro.stages import collect

    changed = configs.load(ROOT / "config/config.yaml", config(swept))
    changed["train"]["weight_decay"] = 0.1
    with pytest.raises(UserError, match=r"weight_decay is 0, the config says 0.1"):
        collect.main(
            ["--config", canonical(changed), "--results", str(swept / "results"), "--out", str(tmp_path / "s.csv")]
        )
    assert not (tmp_path / "s.csv").exists()


def test_a_killed_collect_leaves_no_half_table(swept, tmp_path):
    """SIGKILL at random moments: the old file or none is there, and the next run writes the whole one."""
    from pissa_repro.plan import config as configs
    from pissa_repro.runtime.record import canonical

    text, out = canonical(configs.load(ROOT / "config/config.yaml", config(swept))), tmp_path / "scores.csv"
    command = [
        sys.executable,
        "-m",
        "pissa_repro.stages.collect",
        "--config",
        text,
        "--results",
        "results",
        "--out",
        str(out),
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for _ in range(5):
        process = subprocess.Popen(command, cwd=swept, env=environment, stderr=subprocess.DEVNULL)
        time.sleep(random.uniform(0.02, 0.4))
        process.kill()
        process.wait()
        assert not out.exists() or out.read_text(encoding="utf-8") == (swept / "results" / "scores.csv").read_text(
            encoding="utf-8"
        )
    subprocess.run(command, cwd=swept, env=environment, check=True, capture_output=True)
    assert out.read_text(encoding="utf-8") == (swept / "results" / "scores.csv").read_text(encoding="utf-8")


def test_the_report_is_made(swept):
    snakemake("all", "--configfile", config(swept), "--report", "report.html", folder=swept)
    assert "gsm8k_table.csv" in (swept / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_config_dry_runs_offline(path, tmp_path):
    if path.stem == "schema":
        return
    found = jobs(snakemake("-n", "all", "--configfile", str(path), folder=tmp_path))
    assert found["train"] >= 6 and found["collect"] == 1


def test_a_wrong_config_stops_before_any_job(tmp_path):
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump({"sweep": {"seeds": [0], "rnks": [1]}}), encoding="utf-8")
    done = snakemake("--cores", "1", "--configfile", str(tmp_path / "wrong.yaml"), folder=tmp_path, check=False)
    assert done.returncode != 0 and "Did you mean 'ranks'?" in done.stderr
    assert not (tmp_path / "results").exists()


def test_an_edited_local_file_is_fetched_again(tmp_path):
    rows, target = tmp_path / "mine.jsonl", "results/fetch/data/mine.jsonl"
    rows.write_text('{"q": "1+1?", "a": "2"}\n', encoding="utf-8")
    mine = {"path": str(rows), "fields": {"prompt": "q", "response": "a"}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"datasets": {"mine": mine}}), encoding="utf-8")
    arguments = (target, "--configfile", str(tmp_path / "mine.yaml"))
    snakemake("--cores", "1", *arguments, folder=tmp_path)
    assert jobs(snakemake("-n", *arguments, folder=tmp_path)) == {}
    rows.write_text('{"q": "1+2?", "a": "3"}\n', encoding="utf-8")
    assert jobs(snakemake("-n", *arguments, folder=tmp_path))["fetch_data"] == 1


def test_the_cost_of_the_dag_grows_linearly(tmp_path):
    """Dry runs of about 300 and 1,000 cells: a cell of the larger sweep costs no more (benchmarks/dag.py measures)."""
    seconds = {}
    for seeds in (50, 167):
        started = time.perf_counter()
        snakemake("-n", "-q", "all", "--configfile", config(tmp_path, seeds=list(range(seeds))), folder=tmp_path)
        seconds[6 * seeds] = time.perf_counter() - started
    small, large = (taken / cells for cells, taken in seconds.items())
    assert large < 1.5 * small, seconds


def test_a_back_end_that_cannot_run_stops_the_sweep_before_its_trainings(tmp_path):
    """vLLM built for CPU on a model with a GPU, or the other way round, or none at all."""
    from pissa_repro.scoring.engines import installed

    gpus = 0 if installed() == "vllm" else 1
    changes = {"models": {"mini-llama": {"gpus": gpus}}, "tasks": {"gsm-mini": {"backend": "vllm"}}}
    (tmp_path / "vllm.yaml").write_text(yaml.safe_dump(changes), encoding="utf-8")
    argv = ["--cores", "1", "results/scores.csv", "--configfile", str(tmp_path / "vllm.yaml")]
    done = snakemake(*argv, folder=tmp_path, check=False)
    assert done.returncode and "config.tasks, backend vllm" in done.stdout + done.stderr
    assert not (tmp_path / "results").exists()
    assert snakemake("-n", "studies", *argv[3:], folder=tmp_path).returncode == 0
