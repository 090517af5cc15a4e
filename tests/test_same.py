"""The comparison of two results folders: what it must not see, what it must find, and its exit codes."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors import TensorSpec, serialize_file

SAME = Path(__file__).resolve().parent.parent / "benchmarks" / "same.py"
CELL = "cells/tiny/data/some-nf4-r8-lr0.003-s0"
TENSORS = f"{CELL}/trained/adapter_model.safetensors"
VALUES = np.array([1.0, 2.0, -0.0], "<f4")


def origin(machine: int) -> dict:
    """Everything in a record that another run, machine or checkout changes."""
    return {
        "path": f"/home/{machine}/model", "train_seconds": machine + 0.5, "csv_sha256": f"{machine}",
        "provenance": {"git": {"commit": f"{machine}"}, "seconds": machine, "versions": {"python": f"3.{machine}"}},
    }  # fmt: skip


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def write_tensors(path: Path, values: np.ndarray, dtype: str = "float32", name: str = "w") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    where = {"data_ptr": values.ctypes.data, "data_len": values.nbytes}
    serialize_file({name: TensorSpec(dtype=dtype, shape=values.shape, **where)}, path)


def results(folder: Path, machine: int) -> Path:
    """A small results folder, a file of each kind, as a run on this machine leaves it."""
    record = {"spec": {"path": "embedded", "version": 1, "seconds": 3}, "final_loss": 0.25, "list": [1, 2]}
    write(folder / CELL / "train.json", json.dumps(record | origin(machine)))
    targets = ["q_proj", "k_proj"][:: 1 if machine % 2 else -1]
    config = {"target_modules": targets, "base_model_name_or_path": f"/home/{machine}", "peft_version": f"{machine}"}
    write(folder / CELL / "trained" / "adapter_config.json", json.dumps(config))
    lines = [{"run": origin(machine)}, {"id": 0, "generated": "a\u2028b", "seconds": machine}]
    write(folder / CELL / "generated" / "task.jsonl", "".join(json.dumps(x, ensure_ascii=False) + "\n" for x in lines))
    write(folder / "scores.csv", f'cell,value,commit,train_seconds\n"a\nb",0.10,{machine},{machine}\nc,0.2,1,1\n')
    write(folder / "gsm8k_table.md", f"## A\n\n| time, s | loss |\n| --- | --- |\n| {machine} | 0.5 |\n\nA note.\n")
    write(folder / "loss.svg", f"{machine}")
    write_tensors(folder / TENSORS, VALUES)
    return folder


@pytest.fixture
def folders(tmp_path):
    """The results of two runs that differ in their provenance only."""
    return results(tmp_path / "a", 1), results(tmp_path / "b", 2)


@pytest.fixture
def same(folders, capsys, monkeypatch):
    """Compares the two folders; returns the exit code and what was printed."""

    def run(*more: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["same.py", *map(str, folders), *more])
        with pytest.raises(SystemExit) as caught:
            runpy.run_path(str(SAME), run_name="__main__")
        printed = capsys.readouterr()
        return int(caught.value.code), printed.out + printed.err

    return run


def edit(folder: Path, name: str, old: str, new: str) -> None:
    """Change one file; the old text has to be there."""
    text = (folder / name).read_text(encoding="utf-8")
    assert old in text
    write(folder / name, text.replace(old, new))


def test_runs_that_differ_in_their_provenance_only_are_equal(same):
    assert same() == (0, "6 files: 6 equal but for provenance, 0 not\n")


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        (f"{CELL}/train.json", "0.25", "0.2500001", "final_loss: 1 differ by up to 1e-07"),
        (f"{CELL}/train.json", '"version": 1', '"version": 2', "spec.version: 1 differ by up to 1;"),
        (f"{CELL}/train.json", '"seconds": 3', '"seconds": 4', "spec.seconds"),
        (f"{CELL}/train.json", "[1, 2]", "[1, 2.0]", "list[]: 1 differ by up to 0; list[1] is 2, then 2.0"),
        (f"{CELL}/train.json", "[1, 2]", "[1, 2, 3]", "list (length)"),
        (f"{CELL}/train.json", '"list": [1, 2]', '"new": "nothing"', "new: 1 differ"),
        (f"{CELL}/train.json", "/home/2/model", "model", "path: 1 differ"),
        (f"{CELL}/train.json", "}", "", "cannot be read"),
        (f"{CELL}/trained/adapter_config.json", '"k_proj"', '"v_proj"', "target_modules[]"),
        (f"{CELL}/generated/task.jsonl", "\u2028b", "\u2028c", '[].generated: 1 differ; [1].generated is "a'),
        ("scores.csv", "0.10", "0.1", 'rows[].value: 1 differ by up to 0; rows[0].value is "0.10", then "0.1"'),
        ("scores.csv", "cell,value", "cell,score", "columns[]"),
        ("scores.csv", "c,0.2,1,1\n", "", "rows (length): 1 differ by up to 1; rows (length) is 2, then 1"),
        ("gsm8k_table.md", "0.5", "0.6", "1 differ by up to 0.1"),
        ("gsm8k_table.md", "A note", "Another", "[]: 1 differ"),
    ],
)
def test_a_difference_is_found_and_said(same, folders, name, old, new, said):
    edit(folders[1], name, old, new)
    code, printed = same()
    assert code == 1 and f"{name}: " in printed and said in printed
    assert "6 files: 5 equal but for provenance, 1 not" in printed


@pytest.mark.parametrize(
    ("values", "dtype", "name", "said"),
    [
        (VALUES + np.float32([0, 0.5, -0.0]), "float32", "w", "w: 1 differ by up to 0.5"),
        (np.abs(VALUES), "float32", "w", "w: 1 differ by up to 0\n"),  # 0.0 is not -0.0
        (VALUES[:2], "float32", "w", "w.shape[]: 1 differ by up to 1; w.shape[0] is 3, then 2"),
        (VALUES.view("<i4"), "int32", "w", 'w.dtype: 1 differ; w.dtype is "F32", then "I32"'),
        (VALUES, "float32", "v", 'v: 1 differ; v is "nothing"'),
    ],
)
def test_a_tensor_that_differs_is_found(same, folders, values, dtype, name, said):
    write_tensors(folders[1] / TENSORS, values, dtype, name)
    code, printed = same()
    assert code == 1 and f"{TENSORS}: " in printed and said in printed


def test_bfloat16_is_read_as_numbers(same, folders):
    for folder, bits in zip(folders, ([0x3F80, 0x4000], [0x3F80, 0x4040]), strict=True):  # 1, 2 and 1, 3
        write_tensors(folder / TENSORS, np.array(bits, "<u2"), "bfloat16")
    assert same()[1].startswith(f"{TENSORS}: w: 1 differ by up to 1\n")


def test_a_file_on_one_side_only(same, folders):
    (folders[1] / "scores.csv").unlink()
    write(folders[1] / "new.txt", "")
    code, printed = same()
    assert code == 1 and "scores.csv: only in A" in printed and "new.txt: only in B" in printed
    assert same("--skip", "*.csv", "new*")[0] == 0
    assert same("--only", "cells/*")[0] == 0


def test_a_file_that_was_renamed_and_has_a_column_more(same, folders):
    (folders[1] / "scores.csv").unlink()
    write(folders[1] / "paper" / "scores.csv", 'model,cell,value\nm,"a\nb",0.10\nm,c,0.2\n')
    renamed = ("--renamed", "scores=paper/scores")
    assert same(*renamed)[0] == 1
    assert same(*renamed, "--ignore-columns", "model")[0] == 0


def test_the_lines_are_limited_and_the_rest_is_counted(same, folders):
    edit(folders[1], "scores.csv", "0.10", "0.1")
    edit(folders[1], "gsm8k_table.md", "0.5", "0.6")
    code, printed = same("--limit", "1")
    assert code == 1 and printed.count("differ") == 1 and "... and 1 lines more (--limit)" in printed


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--only", "*.tsv"), "no file to compare"),
        (("--renamed", "scores"), "'scores' is not OLD=NEW"),
        (("--renamed", "scores.csv=gsm8k_table.md"), "would both be gsm8k_table.md"),
        (("--limits", "a"), "a"),
    ],
)
def test_arguments_that_make_no_sense(same, more, said):
    code, printed = same(*more)
    assert code == 2 and said in printed


def test_a_folder_that_is_not_there(same, folders):
    folders[1].rename(folders[1].with_name("c"))
    assert same()[0] == 2


def test_where_work_went_on_is_left_out_if_asked(same, folders):
    """Case 20: a generation that was killed has two runs, a training a step that it went on from."""
    edit(folders[1], f"{CELL}/generated/task.jsonl", '{"id"', '{"run": {"prompts_cut": 1}}\n{"id"')
    edit(folders[1], f"{CELL}/train.json", '"list"', '"resumed_from": 3, "list"')
    assert same()[0] == 1
    assert same("--interrupted") == (0, "6 files: 6 equal but for provenance, 0 not\n")
    edit(folders[1], f"{CELL}/generated/task.jsonl", "\u2028b", "\u2028c")
    assert same("--interrupted")[0] == 1
