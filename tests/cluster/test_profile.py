"""Three cells by profiles/slurm, in a Slurm that runs: every job is submitted, and the scores come out."""

import importlib.util
import os
import subprocess
import sys

import pandas as pd
import pytest
import yaml

from pissa_repro.plan.config import ROOT

CELLS = [{"method": "lora", "quant": "none"}, {"method": "pissa", "quant": "none"}, {"method": "pissa", "quant": "nf4"}]
TINY = {
    "datasets": {"gsm-mini-train": {"rows": 64}, "gsm-mini-test": {"rows": 8}},
    "tasks": {"gsm-mini": {"max_new_tokens": 8}},
    "sweep": {"cells": CELLS, "ranks": [4], "seeds": [0], "tasks": ["gsm-mini"]},
}
NOW = ["--slurm-init-seconds-before-status-checks", "5", "--latency-wait", "5"]


@pytest.mark.skipif(
    importlib.util.find_spec("snakemake_executor_plugin_slurm") is None, reason="the extra `slurm` is not installed"
)
def test_three_cells_are_trained_and_scored_by_jobs(at_default_place, tmp_path):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY), encoding="utf-8")
    profile = ROOT / "profiles" / "slurm"
    command = [
        sys.executable, "-m", "snakemake", "-s", ROOT / "Snakefile", "-d", tmp_path, "results/scores.csv",
        "--profile", profile, "--slurm-partition-config", profile / "partitions.yaml", *NOW,
        "--configfile", tmp_path / "tiny.yaml",
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name != "SLURM_CONF"}
    environment["PATH"] = f"{os.path.dirname(sys.executable)}:{environment['PATH']}"
    done = subprocess.run([*map(str, command)], env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    assert set(pd.read_csv(tmp_path / "results" / "scores.csv")["method"]) == {"lora", "pissa"}
    assert "SLURM jobid" in done.stderr, "nothing was submitted"
    assert at_default_place.run("squeue", "-h", "--states=all", "-o", "%P %T").split("\n").count("cpu COMPLETED") >= 7
