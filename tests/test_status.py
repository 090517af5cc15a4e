"""`pissa status`: where each job of a sweep is, by what lies in its folders, and how long the rest takes."""

import json
import logging
import os
import socket
import subprocess
import sys
import time

import pytest
from commands import pissa
from stage import says
from whole import FOUND, SECONDS, Whole, dead_process

from pissa_repro.cli import status as command
from pissa_repro.plan.batches import Batches
from pissa_repro.plan.config import ROOT
from pissa_repro.plan.jobs import jobs
from pissa_repro.results import status
from pissa_repro.results.forecast import Forecast
from pissa_repro.results.left import Left
from pissa_repro.results.status import Status
from pissa_repro.runtime import lock, paths, progress
from pissa_repro.runtime.errors import INTERRUPTED
from pissa_repro.runtime.lock import alone, lock_of

CONFIGS = sorted(path for path in (ROOT / "config").glob("*.yaml") if path.stem != "schema")


@pytest.fixture
def whole(tmp_path) -> Whole:
    return Whole(tmp_path)


def look(whole: Whole) -> dict:
    """A look, by stage and name; every job is there once, in a state that has a meaning."""
    found = Status([*whole.jobs.values()], whole.results).look()
    assert [one.job for one in found] == [*whole.jobs.values()] and {one.state for one in found} <= {*status.STATES}
    Left(whole.sweep, whole.results).fill(found)
    return {(one.job.stage, one.job.name): one for one in found}


def of(found: dict, job):
    return found[job.stage, job.name]


def states(found: dict, stage: str) -> set[str]:
    return {one.state for (of, _), one in found.items() if of == stage}


def test_a_finished_sweep_has_nothing_left(whole, capsys):
    assert {one.state for one in look(whole).values()} == {"done"}
    pissa("status", "--configfile", whole.config, "--results", whole.results)
    shown = capsys.readouterr().out
    assert f"{len(whole.jobs)} of {len(whole.jobs)} jobs done; nothing is left to do." in shown
    assert "train        6     6" in shown


def test_an_empty_folder_waits_for_what_is_fetched(whole, tmp_path):
    (tmp_path / "new").mkdir()
    found = Status([*whole.jobs.values()], tmp_path / "new").look()
    ready = {one.job.stage for one in found if one.state == "ready"}
    assert ready == {"fetch"} and {one.state for one in found} == {"ready", "waiting"}
    assert {one.cause.job.stage for one in found if one.state == "waiting"} == {"fetch"}
    says(lambda: Status([], tmp_path / "none").look(), "--results", str(tmp_path / "none"), "no such folder")


@pytest.mark.parametrize(
    ("text", "state", "line"),
    [
        ("10:00:00 loading\nerror: the disk is full\n", "failed", "error: the disk is full"),
        ("error: of one process\nE launcher: others were stopped\n", "failed", "error: of one process"),
        ("usage: train.py\ntrain.py: error: argument --gpus\n", "failed", "train.py: error: argument --gpus"),
        ("Traceback (most recent call last):\n  File x\nValueError: no\n", "failed", "ValueError: no"),
        (f"10:00:00 train 3/9\n{INTERRUPTED}\n", "stopped", INTERRUPTED),
        ("error: \x1b[31mred\x07\n", "failed", "error:  [31mred"),
        ("error: " + 10_000 * "x", "failed", "xxx…"),
    ],
)
def test_the_last_line_of_a_log_says_why_a_job_ended(whole, text, state, line):
    job = whole.job("train", "pissa-nf4")
    whole.unmake(job)
    log = whole.says(job, text)
    one = of(found := look(whole), job)
    assert (one.state, one.why.startswith(line) or line in one.why) == (state, True)
    assert str(log) in one.why and "\x1b" not in one.why and len(one.why) < 500
    assert of(found, whole.job("collect")).cause is one
    assert states(found, "train") == {"done", state}


def test_a_failure_is_the_cause_of_all_that_waits(whole, capsys):
    """Beside others that are only not made yet."""
    early, failed = whole.job("train", "lora-none"), whole.job("train", "pissa-nf4")
    for job in (early, failed):
        whole.unmake(job)
    whole.says(failed, "error: no memory\n")
    found = look(whole)
    assert of(found, early).state == "ready" and of(found, whole.job("exhibit")).cause is of(found, failed)
    pissa("status", "--configfile", whole.config, "--results", whole.results)
    shown = capsys.readouterr().out
    behind = sum(one.cause is of(found, failed) for one in found.values())
    assert behind > 3 and f"{failed.name}: error: no memory" in shown and f"; {behind} jobs wait for it" in shown
    assert "1 collect for train (failed)" in shown and "1 failed, 1 ready" in shown


def test_a_training_runs_while_its_lock_is_held(whole, caplog):
    job = whole.job("train", "pissa-nf4")
    whole.unmake(job)
    counting = progress.Plain("train", 40)
    counting.said -= 2 * progress.EVERY
    with caplog.at_level(logging.INFO):
        counting.started -= 5
        counting.step("loss 0.5000, ")
    with alone(whole.at(job.place), "training in"):
        assert of(look(whole), job).state == "running"  # before its first word
        whole.says(job, f"10:00:00 {caplog.messages[-1]}\n")
        one = of(look(whole), job)
    assert one.state == "running" and "train 1/40 loss 0.5000" in one.why and f"pid {os.getpid()} on" in one.why
    assert 150 < one.left < 250  # 39 more, of 5 seconds each, by its own word
    assert of(look(whole), job).state == "ready"


@pytest.mark.parametrize("stage", ["train", "generate"])
def test_a_killed_process_does_not_run_for_ever(whole, stage):
    job = whole.job(stage)
    whole.unmake(job)
    place = whole.at(job.place) if job.place else whole.at(job.journals[0]) / "gsm-mini-00000000.jsonl"
    place.parent.mkdir(parents=True, exist_ok=True)
    lock_of(place).write_text(f"pid {dead_process()} on {socket.gethostname()}", encoding="utf-8")
    one = of(look(whole), job)
    assert one.state == "stopped" and one.why.startswith("killed: pid")
    lock_of(place).write_text("pid 1 on another-machine", encoding="utf-8")
    assert of(look(whole), job).state == "running", "who is there can be asked on that machine alone"
    lock_of(place).write_text("", encoding="utf-8")
    assert of(look(whole), job).state == "running"


def test_a_process_that_lives_and_holds_no_lock_is_not_the_holder(whole):
    """A number is given again."""
    job = whole.job("train")
    whole.unmake(job)
    whole.at(job.place).parent.mkdir(parents=True, exist_ok=True)
    lock_of(whole.at(job.place)).write_text(f"pid {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
    assert of(look(whole), job).state == ("stopped" if os.path.exists("/proc/locks") else "running")


def test_looking_takes_no_lock(whole, monkeypatch):
    """A training that begins at that moment would be refused."""
    job = whole.job("train")
    whole.unmake(job)
    with alone(whole.at(job.place), "training in"):
        monkeypatch.setattr(lock.fcntl, "flock", lambda *_: pytest.fail("a lock was taken"))
        assert of(look(whole), job).state == "running"
        monkeypatch.undo()


def test_a_job_without_a_lock_runs_while_it_writes(whole):
    job = whole.job("evaluate")
    whole.unmake(job)
    log = whole.says(job, "10:00:00 scoring 1/9\n")
    assert of(look(whole), job).state == "running"
    os.utime(log, (time.time() - 2 * status.SILENT,) * 2)
    assert of(look(whole), job).state == "ready"


def test_a_record_of_another_config_is_outdated(whole):
    job = whole.job("train", "pissa-none")
    whole.make(job, spec={**job.spec(), "learning_rate": 0.5})
    one = of(found := look(whole), job)
    assert one.state == "outdated" and "spec.learning_rate is 0.5, the config says 0.003" in one.why
    assert of(found, whole.job("collect")).cause is one
    for change, why in (({"base": {"fingerprint": "other"}}, "weights"), ({"data_sha256": {"a": "b"}}, "rows")):
        whole.make(job, **change)
        assert (of(look(whole), job).state, of(look(whole), job).why) == ("outdated", f"made from other {why}")


def test_a_table_that_is_older_than_its_records_is_outdated(whole):
    table = whole.at(whole.job("collect").record)
    os.utime(table, (1, 1))
    found = look(whole)
    assert of(found, whole.job("collect")).state == "outdated" and states(found, "train") == {"done"}


def test_damaged_and_diverged_records_are_counted(whole):
    damaged, diverged = whole.job("train", "pissa-nf4"), whole.job("train", "lora-none")
    whole.at(damaged.record).write_text('{"spec": ', encoding="utf-8")
    whole.make(diverged, diverged=7)
    found = look(whole)
    assert (of(found, damaged).state, of(found, diverged).state) == ("failed", "diverged")
    assert "not a complete record" in of(found, damaged).why and of(found, diverged).why == "at step 7"
    told = command.told([*found.values()])
    assert sum(told["states"].values()) == len(whole.jobs) and told["stages"]["train"]["diverged"] == 1
    assert not told["finished"] and {"failed", "diverged"} <= {one["state"] for one in told["jobs"]}


def test_what_nobody_needs_any_more_is_not_left_to_do(whole):
    """Snakemake makes no lost record again whose tables are there."""
    whole.unmake(whole.job("admit"))
    assert {one.state for one in look(whole).values()} == {"done"}
    whole.unmake(whole.job("train", "pissa-none"))
    assert of(look(whole), whole.job("admit")).state == "ready"


def test_a_record_is_read_again_only_when_it_has_changed(whole, monkeypatch):
    """The cost is linear: a file is asked for once, however many jobs need it."""
    read, asked, honest, stat = [], [], status.read_json, os.stat
    looking, fetched = Status([*whole.jobs.values()], whole.results), 3
    with monkeypatch.context() as patch:
        patch.setattr(status, "read_json", lambda path: read.append(path) or honest(path))
        looking.look()
        first, records = len(read), sum(job.spec is not None for job in whole.jobs.values())
        patch.setattr(os, "stat", lambda path, **options: asked.append(path) or stat(path, **options))
        looking.look()
    assert (first, len(read)) == (records, records)
    assert len(whole.jobs) <= len(asked) <= len(whole.jobs) + 3 * fetched + 1  # and the folder


def test_the_rest_takes_as_long_as_jobs_like_it(whole):
    pissa_job, full, batch = whole.job("train", "pissa-none"), whole.job("train", "full"), whole.job("generate")
    for job in (pissa_job, full, batch):
        whole.unmake(job)
    whole.make(whole.job("train", "lora-none"), train_seconds=70.0)
    found = look(whole)
    assert of(found, pissa_job).left == 70.0, "of the other one with factors on a plain base"
    (item,) = Forecast(whole.sweep, whole.results).items(whole.sweep.only({full.name}), [paths.cell(full.name).train])
    assert of(found, full).left == item.hours * 3600 > 0 and item.source == "arithmetic"
    assert of(found, batch).left is None, "there is one batch, and nobody knows how long it takes"
    assert of(found, whole.job("train", "lora-nf4")).seconds == SECONDS


def test_watching_says_a_line_now_and_then_and_ends_with_the_sweep(whole, monkeypatch, capsys):
    whole.unmake(collect := whole.job("collect"))
    monkeypatch.setattr(time, "sleep", lambda seconds: [whole.make(one) for one in (collect, *exhibits)])
    exhibits = [job for job in whole.jobs.values() if job.stage == "exhibit"]
    pissa("status", "--configfile", whole.config, "--results", whole.results, "--watch")
    first, last = capsys.readouterr().out.splitlines()
    assert "1 ready" in first and last.endswith("nothing is left to do.")


def test_a_terminal_shows_bars(whole, monkeypatch, capsys):
    whole.unmake(whole.job("train", "pissa-none"))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    command.show([*look(whole).values()], watch=True)
    shown = capsys.readouterr().out
    assert f"train        [{20 * '#'}....] 5/6  1 ready" in shown and shown.count("\n") < 24


def test_it_writes_nothing_and_loads_no_torch(whole):
    job = whole.job("train")
    whole.unmake(job)
    whole.says(job, "error: no\n")
    before = {path: path.stat().st_mtime_ns for path in whole.folder.rglob("*")}
    words = ["status", "--configfile", str(whole.config), "--json"]
    code = (
        "import sys; from pissa_repro.cli import main\n"
        f"main.group().main({words}, prog_name='pissa', standalone_mode=False)\n"
        "assert not {'torch', 'pandas', 'numpy', 'transformers', 'rich'} & set(sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=whole.folder, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["states"]["failed"] == 1 and told["jobs"][0]["why"].startswith("error: no")
    assert {path: path.stat().st_mtime_ns for path in whole.folder.rglob("*")} == before


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_need_is_made_by_a_job_before(path):
    """Of tables and figures too: what no job makes would never be waited for."""
    sweep, made = command.swept([path]), set()
    for job in [*jobs(sweep, Batches(sweep)), *command.exhibited(sweep)]:
        assert {*job.needs} <= made, (job.stage, job.name)
        made |= {job.record, *job.beside}


def test_fetched_hashes_are_those_of_the_records(whole):
    """Other weights than those that all was made from: all but the rows is outdated."""
    whole.make(whole.job("fetch", "mini-llama"), fingerprint=FOUND[::-1].replace("f", "e"))
    found = look(whole)
    assert states(found, "train") == states(found, "generate") == states(found, "evaluate") == {"outdated"}
    assert states(found, "fetch") == {"done"}
