"""A disk that is full while weights are written: one message that names what, and no half folder."""

import re
import subprocess
import sys

import pytest
from disks import limit_file_size, on_a_disk
from helpers import Run

from pissa_repro.plan.config import ROOT
from pissa_repro.runtime import record
from pissa_repro.runtime.errors import run_stage
from pissa_repro.runtime.record import canonical


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_model, tiny_rows):
    """A tiny cell that has its initial factors, and its decompositions kept."""
    made = Run(tmp_path_factory.mktemp("cell"), tiny_model, tiny_rows, "pissa", steps=4, batch_size=5)
    made.init()
    return made


def init(run, out):
    """The init stage of the cell's factors again, into another folder."""
    spec = ["--spec", canonical(run.init_spec), "--model", str(run.model), "--scratch", str(run.folder / "decomposed")]
    return [sys.executable, "-m", "pissa_repro.stages.init", *spec, "--out", str(out)]


def told(done, path, word):
    """One message, of this path and this reason."""
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert re.search(f"^error: cannot read or write {path}: {word}", done.stderr, re.MULTILINE), done.stderr


def test_a_start_that_may_not_grow_leaves_no_folder(run, tmp_path):
    """Case 20: safetensors has an error type of its own for it."""
    out = tmp_path / "start"
    done = subprocess.run(init(run, out), preexec_fn=limit_file_size, capture_output=True, encoding="utf-8", cwd=ROOT)
    told(done, out, "File too large")
    assert list(tmp_path.iterdir()) == []


def test_a_start_on_a_full_disk_leaves_no_folder(run, tmp_path):
    """Case 20: an empty `.start` was left. What is written is known before."""
    out, stored = tmp_path / "disk" / "start", (run.start / "factors.safetensors").stat().st_size
    done = on_a_disk(out.parent, "size=12k", init(run, out))
    assert done.returncode == 1 and done.stdout == "" and "Traceback" not in done.stderr
    needed = re.search(rf"^error: --out {out}: needs ([\d,]+) bytes, [\d,]+ are free there", done.stderr, re.MULTILINE)
    assert needed and 0.9 * stored < int(needed[1].replace(",", "")) < stored


def test_decompositions_on_a_full_disk_leave_no_half_file(run, tmp_path):
    """Case 20: the file of the one that found no room is named."""
    argv = init(run, tmp_path / "start")
    argv[argv.index("--scratch") + 1] = str(tmp_path / "disk")
    done = on_a_disk(tmp_path / "disk", "size=12k", argv)
    told(done, rf"{tmp_path}/disk/\S+\.safetensors", "No space left on device")
    assert not (tmp_path / "start").exists()


def test_checkpoints_on_a_full_disk(run, tmp_path):
    """Case 20: torch names no file."""
    run.scratch = tmp_path / "disk" / "cell"
    argv = [sys.executable, "-m", "pissa_repro.stages.train", *run.train_argv("--checkpoint-steps", "2")]
    done = on_a_disk(tmp_path / "disk", "size=64k", argv)
    told(done, run.scratch, "No space left on device")
    assert not run.trained.exists() and not run.record.exists()


@pytest.mark.parametrize("fails", [OSError(28, "No space left on device"), ZeroDivisionError("nothing")])
def test_a_folder_that_fails_half_way_leaves_the_old_one(tmp_path, fails):
    """Case 20: whatever the reason."""
    old = tmp_path / "start"
    old.mkdir()
    (old / "weights").write_bytes(b"old")

    def write():
        with record.atomic_folder(old) as unfinished:
            (unfinished / "weights").write_bytes(b"half")
            raise fails

    with pytest.raises((SystemExit, ZeroDivisionError)) as caught:
        run_stage(write)
    assert isinstance(fails, ZeroDivisionError) or f"cannot read or write {old}: No space" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["start"] and (old / "weights").read_bytes() == b"old"
