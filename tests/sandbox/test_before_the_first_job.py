"""A sweep whose programs could not be run here says so before its first job; other sweeps do not ask."""

import json

import pytest
import yaml
from stage import says
from test_workflow import snakemake

from pissa_repro import tasks
from pissa_repro.grading import sandbox

ROW = {
    "prompt": "def one():\n",
    "response": "    return 1",
    "test": "def check(f): assert f() == 1",
    "entry_point": "one",
}


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """The default sweep with a task that runs programs, on a machine whose only sandbox is one that nobody knows."""
    monkeypatch.setenv(sandbox.FORCE, "none-here")
    (tmp_path / "rows.jsonl").write_text(json.dumps(ROW) + "\n", encoding="utf-8")
    fields = {name: name for name in ROW}
    content = {
        "datasets": {"code": {"path": str(tmp_path / "rows.jsonl"), "fields": fields}},
        "tasks": {"programs": {"task": "humaneval", "dataset": "code", "max_new_tokens": 8}},
        "sweep": {"tasks": ["programs"]},
    }
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("target", ["results/scores.csv", "results/fetch/data/code.json"])
def test_only_a_run_that_scores_is_refused_and_before_any_job(tmp_path, sweep, target):
    done = snakemake("--cores", "1", target, "--configfile", sweep, folder=tmp_path, check=False)
    said = done.stdout + done.stderr
    refused = target.endswith("scores.csv")
    assert (done.returncode != 0) is refused and (tmp_path / "results").exists() is not refused, said[-2000:]
    assert ("config.tasks.programs: " in said) is refused and "Traceback" not in said
    assert not refused or "PISSA_REPRO_SANDBOX: unknown sandbox 'none-here'" in said


def test_a_task_without_programs_asks_for_nothing(monkeypatch):
    monkeypatch.setenv(sandbox.FORCE, "none-here")
    needing = {"humaneval", "mbpp"}
    for name in set(tasks.names()) - needing:
        tasks.check_ready(name, "here")
    for name in needing:
        says(lambda name=name: tasks.check_ready(name, "config.tasks.code"), "config.tasks.code: ", sandbox.FORCE)
