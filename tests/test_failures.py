"""A disk that fails, a user who stops, a machine that dies: one message, and no half output."""

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from disks import limit_file_size, on_a_disk
from stage import FIELDS, LINE, says

from pissa_repro.plan.config import ROOT
from pissa_repro.runtime import record
from pissa_repro.runtime.errors import run_stage
from pissa_repro.sources.fetched import stored_model
from pissa_repro.sources.rows import select


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("mode", ["w", "wb"])
def test_a_failed_write_keeps_the_old_file(tmp_path, mode):
    path = tmp_path / "record.json"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(ZeroDivisionError), record.atomic(path, mode) as file:
        file.write("half" if mode == "w" else b"half")
        1 / 0  # noqa: B018
    assert path.read_text(encoding="utf-8") == "old" and left(tmp_path) == ["record.json"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, object()])
def test_a_record_that_cannot_be_written_leaves_none(tmp_path, value):
    with pytest.raises((ValueError, TypeError)):
        record.write_json(tmp_path / "record.json", {"a": 1.0, "score": value})
    assert left(tmp_path) == []


@pytest.mark.parametrize("content", ["", '{"a": 1', "\x00"])
def test_a_damaged_record_is_named(tmp_path, content):
    path = tmp_path / "record.json"
    path.write_text(content, encoding="utf-8")
    says(lambda: record.read_json(path), str(path), "not a complete record", "again")


def test_a_missing_record_and_a_model_that_has_gone(tmp_path):
    path = tmp_path / "record.json"
    says(lambda: record.read_json(path), str(path), "no such record")
    record.write_json(path, {"path": str(tmp_path / "gone"), "name": "mine"})
    says(lambda: stored_model(path), "gone", "run again")


def command(folder: Path, data_path: str) -> list[str]:
    spec = {"stage": "fetch", "version": 1, "dataset": {"path": data_path, "fields": FIELDS}}
    outputs = ["--out", str(folder / "out.json"), "--rows", str(folder / "out.jsonl")]
    return [sys.executable, "-m", "pissa_repro.stages.fetch", "--spec", json.dumps(spec), *outputs]


def many_rows(folder: Path, count: int) -> str:
    path = folder / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(LINE * count, compresslevel=1))
    return str(path)


def test_a_file_that_may_not_grow(tmp_path):
    """`ulimit -f`, a batch system's file limit."""
    out = tmp_path / "out"
    out.mkdir()
    done = subprocess.run(
        command(out, many_rows(tmp_path, 1000)),
        preexec_fn=limit_file_size,
        capture_output=True,
        encoding="utf-8",
        cwd=ROOT,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "error: cannot read or write" in done.stderr and "too large" in done.stderr
    assert left(out) == []


@pytest.mark.parametrize(("options", "word"), [("size=16k", "No space left"), ("ro", "Read-only file system")])
def test_a_disk_that_is_full_or_read_only(tmp_path, options, word):
    """Case 20: the message names the file."""
    out = tmp_path / "out"
    done = on_a_disk(out, options, command(out, many_rows(tmp_path, 1000)))
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert re.search(rf"error: cannot read or write {out}/\S*out.jsonl\S*: {word}", done.stderr), done.stderr
    assert done.stdout == "", "something was left on the disk"


@contextmanager
def unprivileged():
    """File permissions do not bind root; be nobody for a while."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_folder_that_may_not_be_written(tmp_path):
    rows = select([{"question": "q", "answer": "a"}], {"fields": FIELDS}, "here")
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    with pytest.raises(SystemExit) as caught, unprivileged():
        run_stage(lambda: record.write_lines(locked / "rows.jsonl", rows))
    assert str(caught.value).startswith("error: cannot read or write") and "locked" in str(caught.value)
    assert "Permission denied" in str(caught.value) and left(locked) == []


def test_an_output_that_is_a_folder(tmp_path):
    (tmp_path / "rows.jsonl").mkdir()
    with pytest.raises(SystemExit, match="cannot read or write"):
        run_stage(lambda: record.write_lines(tmp_path / "rows.jsonl", [1]))
    assert left(tmp_path) == ["rows.jsonl"]


def started(process: subprocess.Popen, path: str) -> bool:
    """Whether the process has opened the file."""
    folder = f"/proc/{process.pid}/fd"
    try:
        return any(os.readlink(f"{folder}/{fd}") == path for fd in os.listdir(folder))
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc to see when the stage is at work")
@pytest.mark.parametrize(("kill", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_stopped_stage_leaves_no_output(tmp_path, kill, code):
    """Case 20: SIGTERM is what a batch system sends when it takes a machine back."""
    out, rows = tmp_path / "out", many_rows(tmp_path, 1_000_000)
    out.mkdir()
    process = subprocess.Popen(command(out, rows), stderr=subprocess.PIPE, encoding="utf-8", cwd=ROOT)
    deadline = time.monotonic() + 30
    while not started(process, rows) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(kill)
    _, err = process.communicate(timeout=30)
    assert process.returncode == code and "Traceback" not in err, err
    assert ("interrupted: finished outputs are kept" in err) == (kill != signal.SIGKILL)
    assert left(out) == []


def test_a_machine_that_dies_in_the_middle_of_a_write(tmp_path):
    """kill -9 between the first byte and the rename: the old file stays, the half one has another name."""
    path = tmp_path / "record.json"
    path.write_text("old", encoding="utf-8")
    code = (
        "import os, signal, sys; from pissa_repro.runtime import record\n"
        "with record.atomic(sys.argv[1]) as file:\n"
        "    file.write('half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT)
    assert done.returncode == -9 and path.read_text(encoding="utf-8") == "old"
    assert [p.read_text(encoding="utf-8") for p in tmp_path.glob(".record.json.*")] == ["half"], (
        "the half file was expected under a dot name"
    )


def test_a_card_without_room_is_one_message():
    """By its type, of which torch has one; the libraries of a stage that needs no torch stay away."""
    code = "from pissa_repro.runtime.errors import run_stage; import sys\ndef main(): {}\nrun_stage(main)"
    full = "import torch; raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB.')"
    done = subprocess.run([sys.executable, "-c", code.format(full)], capture_output=True, encoding="utf-8", cwd=ROOT)
    assert done.returncode == 1 and done.stderr.startswith("error: CUDA out of memory. Tried to allocate 2.00 GiB. For")
    for word in ("micro_batch_size", "gradient_checkpointing", "nf4", "sharding: full", "backend: vllm"):
        assert word in done.stderr
    other = "assert 'torch' not in sys.modules; raise RuntimeError('another')"
    done = subprocess.run([sys.executable, "-c", code.format(other)], capture_output=True, encoding="utf-8", cwd=ROOT)
    assert done.returncode == 1 and done.stderr.endswith("RuntimeError: another\n")
