"""Joining results folders: what is taken from each, what is refused with both named, and what is told."""

import shutil
from pathlib import Path

import pytest
import torch
from commands import pissa
from hypothesis import given, settings
from hypothesis import strategies as st
from joining import BATCH, edited, provenance, save_cell, save_results
from stage import says

from pissa_repro.model import factors
from pissa_repro.runtime import paths
from pissa_repro.runtime.record import read_json, write_json
from pissa_repro.runtime.record import sha256 as of_bytes

CELLS = ["a-s0", "a-s1", "b-s0", "b-s1"]
CELL = paths.cell("m/d/a-s0", Path())


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def two(tmp_path) -> tuple[Path, Path]:
    """The folders of two machines, with two cells each."""
    first = save_results(tmp_path / "first/results", CELLS[:2])
    return first, save_results(tmp_path / "second/results", CELLS[2:])


@pytest.fixture
def joined(two, tmp_path):
    """Call with more options: the joined folder of `two`."""

    def call(*options) -> Path:
        pissa("join", *two, "--out", tmp_path / "joined/results", *options)
        return tmp_path / "joined/results"

    return call


def refused(two, out: Path, *words) -> None:
    """The two are not joined, every word is said, and nothing is written."""
    says(lambda: pissa("join", *two, "--out", out), *words)
    assert not out.exists() and not any(out.parent.glob(".*"))


@settings(max_examples=12)
@given(st.lists(st.sampled_from([{0}, {1}, {0, 1}]), min_size=4, max_size=4))
def test_however_the_cells_lie_on_two_machines_the_joined_folder_is_that_of_one(tmp_path_factory, on):
    """Whole cells in either folder or in both: files and bytes are as when one machine had made all."""
    folder = tmp_path_factory.mktemp("on")
    parts = [
        save_results(folder / str(n), [cell for cell, here in zip(CELLS, on, strict=True) if n in here])
        for n in range(2)
    ]
    for part in parts:
        paths.cells(part).mkdir(exist_ok=True)
    pissa("join", *parts, "--out", folder / "joined")
    whole, found = files(save_results(folder / "whole", CELLS)), files(folder / "joined")
    mark = paths.batch(BATCH, Path()).as_posix()
    path = paths.model("m", Path()).as_posix()  # it says where a machine has the model
    assert found.keys() == whole.keys()
    assert all(found[name] == whole[name] for name in whole.keys() - {mark, path})
    assert read_json(folder / "joined" / mark)["spec"] == read_json(folder / "whole" / mark)["spec"]


def test_weights_are_linked_records_copied_and_the_given_folders_stay(two, joined):
    before = [(files(one), [p.stat().st_mtime_ns for p in sorted(one.rglob("*"))]) for one in two]
    out = joined()
    assert (out / CELL.trained / "model.safetensors").samefile(two[0] / CELL.trained / "model.safetensors")
    assert not (out / CELL.train).samefile(two[0] / CELL.train)
    assert before == [(files(one), [p.stat().st_mtime_ns for p in sorted(one.rglob("*"))]) for one in two]


def test_times_are_in_the_order_of_the_workflow_whatever_the_clocks_said(joined):
    out = joined()
    order = [
        paths.data("d", out), out / CELL.trained / ".snakemake_timestamp", paths.batch(BATCH, out),
        out / CELL.score("task"),
    ]  # fmt: skip
    times = [path.stat().st_mtime for path in order]
    assert times == sorted(set(times))


def test_halves_of_a_batch_are_one_and_other_tasks_make_none(two, joined, tmp_path):
    mark = read_json(paths.batch(BATCH, joined()))
    assert set(mark["spec"]["cells"]) == {f"m/d/{cell}" for cell in CELLS} and len(mark["jobs"]) == 4
    assert len(mark["joined"]) == 1
    changed = read_json(path := paths.batch(BATCH, two[1]))
    write_json(path, {**changed, "spec": {**changed["spec"], "tasks": {}}})
    pissa("join", *two, "--out", tmp_path / "again")
    assert not paths.batch(BATCH, tmp_path / "again").exists()


BOTH = {  # what differs where both folders have the cell a-s0: the record, its changes, what is said
    "spec": (CELL.score("task"), {"spec": {"stage": "evaluate", "version": 9}}, "spec.version is 9"),
    "metrics": (CELL.score("task"), {"metrics": {"paper": {"value": 0.25}}}, "metrics.paper.value is 0.25"),
    "weights": (paths.model("m", Path()), {"fingerprint": "e" * 64}, "made from other weights of m"),
    "rows": (paths.data("d", Path()), {"sha256": "e" * 64}, "not as it was fetched"),
}


@pytest.mark.parametrize("case", BOTH)
def test_what_both_have_and_is_not_the_same_is_refused(two, tmp_path, case):
    save_cell(two[1], "a-s0", provenance())
    place, changes, words = BOTH[case]
    edited(two[1] / place, **changes)
    refused(two, tmp_path / "out", str(two[1]), words)


def test_a_cell_that_was_trained_twice_with_other_results_is_refused_and_both_are_named(two, tmp_path):
    save_cell(two[1], "a-s0", provenance())
    weights = two[1] / CELL.trained / "model.safetensors"
    weights.write_bytes(b"other")
    refused(two, tmp_path / "out", str(weights.parent), "model.safetensors: not as the training left it")
    trained = {**read_json(two[1] / CELL.train)["trained_sha256"], "model.safetensors": of_bytes(weights)}
    for record in (CELL.train, CELL.score("task")):
        edited(two[1] / record, trained_sha256=trained)
    refused(two, tmp_path / "out", f"{two[1] / CELL.train}: ", str(two[0] / CELL.train), "trained_sha256.model")


def test_other_rows_of_one_name_are_refused(two, tmp_path):
    rows = paths.rows("d", two[1])
    rows.write_text('{"prompt": "x", "response": "y"}\n', encoding="utf-8")
    edited(paths.data("d", two[1]), sha256=of_bytes(rows))
    refused(two, tmp_path / "out", "other rows of d")
    for cell in CELLS[2:]:
        edited(paths.cell(f"m/d/{cell}", two[1]).train, data_sha256=of_bytes(rows))
    refused(two, tmp_path / "out", str(paths.data("d", two[0])), str(paths.data("d", two[1])), "sha256 is")


def test_folders_that_make_no_sense_are_refused(two, tmp_path, monkeypatch):
    refused((two[0].parent, two[1]), tmp_path / "out", f"{two[0].parent}: no results folder", f"mean {two[0]}?")
    refused((two[0], two[0]), tmp_path / "out", "each once")
    refused((two[0],), tmp_path / "out", "two results folders or more")
    says(lambda: pissa("join", *two, "--out", two[1]), f"{two[1]}: exists already")
    free = shutil.disk_usage(tmp_path)._replace(free=100)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: free)
        refused(two, tmp_path / "out", "100 are free")
    (two[1] / CELL.train).parent.mkdir(parents=True)
    (two[1] / CELL.train).write_text("[1]", encoding="utf-8")
    refused(two, tmp_path / "out", f"{two[1] / CELL.train}: not a record of this version")


def test_commits_versions_and_what_is_not_whole_are_told(two, tmp_path, capsys):
    save_cell(two[1], "c-s0", provenance("badbad", dirty=True, torch="2.8"))
    (two[1] / "cells/m/d/d-s0/trained").mkdir(parents=True)
    shutil.rmtree(two[0] / CELL.trained)
    pissa("join", *two, "--out", tmp_path / "out")
    said = capsys.readouterr().out
    assert f"{two[1]}: 3 cells, 3 scores, 0 starts\n" in said and "/out: 5 cells, 5 scores" in said
    assert "several commits: badbad (dirty), c0ffee." in said and "several versions of torch: 2.8, 2.9." in said
    assert "left out 1 cells" in said
    assert "1 cells have no weights" in said and not (tmp_path / "out/cells/m/d/d-s0").exists()


def test_starts_that_differ_are_refused_and_the_first_one_kept_where_that_is_asked_for(two, tmp_path):
    for number, home in enumerate(two):
        generator = torch.Generator().manual_seed(number)
        a, b = torch.randn(2, 4, generator=generator), torch.randn(4, 2, generator=generator)
        made = factors.Factors({"q_proj": a}, {"q_proj": b}, "start", 2, 2.0, False)
        base = {"name": "m", "commit": None, "fingerprint": "f" * 64}
        factors.save(paths.start("m/pissa-none-r2-s0", home), made, base, "pissa", "none")
        write_json(paths.start_record("m/pissa-none-r2-s0", home), {"spec": {"stage": "init"}, "base": base})
    starts = [paths.start_record("m/pissa-none-r2-s0", home) for home in two]
    refused(two, tmp_path / "out", *map(str, starts), "factors is", "--first-start")
    pissa("join", *two, "--out", tmp_path / "out", "--first-start")
    assert factors.sha256(paths.start("m/pissa-none-r2-s0", tmp_path / "out")) == factors.sha256(starts[0].parent)
