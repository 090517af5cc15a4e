"""What jobs ask a cluster for, by a dry run of the paper's grid: no cluster is needed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pissa_repro.plan.config import ROOT

PROFILE = ROOT / "profiles" / "slurm" / "profile.yaml"
GIVEN = ["--set-resources", "train:runtime=7"]
OWN = {
    "gemma-7b": {"gpus": 4, "sharding": "auto", "gradient_checkpointing": False},
    "mistral-7b": {"micro_batch_size": "auto", "compile": True},
}
LLAMA_2_7B = 6_738_415_616  # parameters


@pytest.fixture(scope="module")
def asked(tmp_path_factory) -> dict[str, list[dict[str, str]]]:
    """The resources of each job of a dry run, with its wildcards, by rule."""
    folder = tmp_path_factory.mktemp("dry")
    (folder / "own.yaml").write_text(yaml.safe_dump({"models": OWN}), encoding="utf-8")
    command = [sys.executable, "-m", "snakemake", "-s", ROOT / "Snakefile", "-d", folder, "-n", "results/scores.csv"]
    command += ["--cores", "1", *GIVEN, "--configfile", ROOT / "config" / "paper.yaml", folder / "own.yaml"]
    done = subprocess.run([*map(str, command)], capture_output=True, encoding="utf-8", env=os.environ)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    jobs: dict[str, list[dict[str, str]]] = {}
    for line in (done.stdout + done.stderr).splitlines():
        if named := re.match(r"(?:local)?(?:rule|checkpoint) (\w+):$", line):
            jobs.setdefault(named[1], []).append({"wildcards": ""})
            job = jobs[named[1]][-1]
        elif line.startswith("    wildcards: "):
            job["wildcards"] = line
        elif line.startswith("    resources: "):
            job |= dict(re.findall(r"(\w+)=([^,]*)", line))
    return jobs


def of(asked, rule: str, model: str = "llama-2-7b") -> dict[str, str]:
    return next(job for job in asked[rule] if model in job["wildcards"].lower())


def test_each_model_trains_in_its_way(asked):
    keys = ("gpu", "sharding", "micro_batch_size", "gradient_checkpointing", "compile")
    found = {model: [of(asked, "train", model)[key] for key in keys] for model in (*OWN, "llama-2-7b")}
    assert found["gemma-7b"] == ["4", "auto", "4", "no", "no"]
    assert found["mistral-7b"] == ["1", "none", "auto", "cards", "yes"]
    assert found["llama-2-7b"] == ["1", "none", "4", "cards", "no"]


def test_every_job_of_the_cluster_says_how_long_and_how_much(asked):
    local = {"fetch_model", "fetch_data", "collect", "table", "figure", "all"}
    assert asked.keys() > {"admit", "init", "quant_error", "train", "generate", "evaluate"}
    for rule in asked.keys() - local:
        for job in asked[rule]:
            assert int(job["runtime"]) > 0 and int(job["mem_mb"]) >= 4000, (rule, job)
            if int(job.get("gpu", "0")):
                assert (job["nodes"], job["tasks_per_gpu"]) == ("1", "0"), (rule, job)


def test_what_the_profile_groups_sums_to_one_node(asked):
    settings = yaml.safe_load(PROFILE.read_text(encoding="utf-8"))
    (grouped,) = settings["groups"]
    for job in asked[grouped.split("=")[0]]:
        assert "nodes" not in job and "gpu" not in job, "Snakemake adds up what the jobs of a group ask for"


def test_a_word_on_the_command_line_changes_its_value_alone(asked):
    job = of(asked, "train")
    assert job["runtime"] == "7" and job["gpu"] == "1" and job["slurm_extra"].startswith("--signal=USR1@")
    assert of(asked, "generate")["runtime"] == "720"
    assert of(asked, "generate")["slurm_extra"] == job["slurm_extra"], "both are warned of their walltime"


def test_memory_holds_the_weights_in_float32(asked):
    assert int(of(asked, "train")["mem_mb"]) * 1_000_000 > 4 * LLAMA_2_7B
    assert int(asked["evaluate"][0]["mem_mb"]) < 10_000, "scoring loads no model"


def test_the_profile_names_files_that_are_there():
    settings = yaml.safe_load(PROFILE.read_text(encoding="utf-8"))
    place = Path(settings["slurm-partition-config"])
    partitions = yaml.safe_load((ROOT / place).read_text(encoding="utf-8"))["partitions"]
    assert [name for name, limits in partitions.items() if limits.get("max_gpu")] == ["gpu"]
    assert not {"train:runtime", "generate:runtime"} & {word.split("=")[0] for word in settings["set-resources"]}


@pytest.mark.parametrize(("dry", "more"), [(["-n"], []), ([], []), (["-n"], ["--resources", "gpu=4"])])
def test_a_training_on_more_cards_than_all_jobs_may_use_is_refused(tmp_path, dry, more):
    """Snakemake would cut it to them, and say nothing. Other targets of the same config run."""
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"models": {"mini-llama": {"gpus": 4}}}), encoding="utf-8")
    command = [sys.executable, "-m", "snakemake", "-s", ROOT / "Snakefile", "-d", tmp_path, *dry]
    command += ["--profile", ROOT / "profiles" / "gpu", *more, "--configfile", tmp_path / "own.yaml", "--"]
    done = subprocess.run([*map(str, command), "train_all"], capture_output=True, encoding="utf-8")
    said = done.stdout + done.stderr
    if more:
        assert done.returncode == 0 and "gpu=4, " in said, said[-3000:]
        return
    for word in ("config.models.mini-llama.gpus", "gpu=4", "gpu=1", "--resources gpu=4"):
        assert word in said, said[-3000:]
    assert done.returncode == 1 and not (tmp_path / "results").exists()
    if dry:
        subprocess.run([*map(str, command), "studies"], check=True, capture_output=True)
