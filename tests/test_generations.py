"""The file of generations: what a kill, a full disk, a second process or another origin do to it."""

import resource
import signal
import subprocess
import sys

import pytest
from stage import says

from pissa_repro.plan.config import ROOT
from pissa_repro.runtime import paths
from pissa_repro.scoring import generations

ORIGIN = {"spec": {"task": "gsm8k"}, "data_sha256": "0" * 64}


def line(item, turn=0, text="é\n\u2028", tokens=3):
    return {"id": item, "turn": turn, "generated": text, "tokens": tokens, "seconds": 0.5}


@pytest.fixture
def kept(tmp_path):
    """A file with one run and two items."""
    path = tmp_path / "generated" / "task.jsonl"
    with generations.journal(path, ORIGIN) as journal:
        journal.begin({"checks": {}})
        journal.add([line(0), line(7)])
    return path


def test_what_was_kept_is_read(kept):
    found = generations.read(kept)
    assert found.turns == {0: ["é\n\u2028"], 7: ["é\n\u2028"]} and found.origin == ORIGIN
    assert (found.tokens, found.seconds, found.runs) == (6, 1.0, [{"checks": {}}])
    assert found.pending([0, 3, 7], 0) == [3] and found.pending([0, 3, 7], 1) == [0, 3, 7]


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_torn_last_line_is_dropped_and_written_again(kept, cut):
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-cut])
    assert list(generations.read(kept).turns) == [0]
    with generations.journal(kept, ORIGIN) as journal:
        assert journal.pending([0, 7], 0) == [7]
        journal.add([line(7)])
    assert kept.read_bytes() == whole


@pytest.mark.parametrize("garbage", [b"\x00" * 30, b"\xff\xfe\n", b"[1, 2]\n", b"not json\n"])
def test_what_follows_a_damaged_line_does_not_count(kept, garbage):
    whole = kept.read_bytes()
    kept.write_bytes(whole + garbage + b'{"id": 9}\n')
    with generations.journal(kept, ORIGIN) as journal:
        assert sorted(journal.turns) == [0, 7]
    assert kept.read_bytes() == whole


def test_another_origin_begins_anew(kept):
    with generations.journal(kept, ORIGIN | {"data_sha256": "1" * 64}) as journal:
        assert not journal.turns and not journal.runs
    assert generations.read(kept).turns == {}


def test_the_end_and_the_refusal_of_a_run(kept):
    with generations.journal(kept, ORIGIN) as journal:
        journal.finish({"memory_bytes": 7})
        journal.refuse("no")
        assert journal.refused == "no"
    found = generations.read(kept)
    assert found.runs == [{"checks": {}, "memory_bytes": 7}] and found.refused == "no"
    with generations.journal(kept, ORIGIN) as journal:
        journal.begin({"checks": {"a": 1}})
    assert generations.read(kept).refused is None, "a later run was not refused"


def test_every_spec_has_a_file_of_its_own():
    one, two = (generations.place(paths.cell("c"), "gsm8k", {"dtype": dtype}) for dtype in ("float32", "bfloat16"))
    assert one != two and one.parent == two.parent and one.name.startswith("gsm8k-")


def test_a_second_process_is_refused(kept):
    with generations.journal(kept, ORIGIN):
        code = f"from pissa_repro.scoring import generations as g\nwith g.journal(g.Path({str(kept)!r}), {{}}): pass"
        found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8")
    assert "another process is generating into it" in found.stderr and found.returncode
    assert generations.read(kept).origin == ORIGIN


def test_a_full_disk_leaves_whole_lines(kept):
    """The limit on a file's size stands for the disk; the message names the file."""
    whole, limits = kept.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with generations.journal(kept, ORIGIN) as journal:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 50, limits[1]))
            with pytest.raises(OSError, match=str(kept)):
                journal.add([line(1), line(2)])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, before)
        assert sorted(journal.turns) == [0, 7]
        assert kept.read_bytes() == whole
        journal.add([line(1)])
    assert sorted(generations.read(kept).turns) == [0, 1, 7]


def test_nothing_generated_is_said(tmp_path):
    says(lambda: generations.read(tmp_path / "none.jsonl"), "none.jsonl", "no generations")
    (tmp_path / "empty.jsonl").touch()
    says(lambda: generations.read(tmp_path / "empty.jsonl"), "empty.jsonl", "no generations")
