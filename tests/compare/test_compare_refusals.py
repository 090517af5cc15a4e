"""The comparison of two scored cells: what is refused, and the command as a user runs it."""

import os
import subprocess
import sys

import pytest
from commands import pissa
from scored_cells import SHARE, answers, at, run, samples, write

from pissa_repro.plan.config import ROOT
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import read_json, write_json


def test_items_in_another_order_are_the_same_items(cells, capsys):
    folder = at(cells["lora"], 0)
    before = run(capsys, at(cells["pissa"], 0), folder)
    path = folder / "eval" / "gsm-mini.samples.jsonl"
    path.write_text("".join(reversed(path.read_text(encoding="utf-8").splitlines(keepends=True))), encoding="utf-8")
    assert run(capsys, at(cells["pissa"], 0), folder) == before


@pytest.mark.parametrize("seed", [0, 2])
def test_other_items_are_refused_with_the_number_of_shared_ones(cells, seed):
    """Also where only a later seed has them."""
    rows = samples(answers("lora", seed))[:150]
    for row in rows[:30]:
        row["prompt"] += " Think."
    spec = read_json(at(cells["lora"], seed) / "eval" / "gsm-mini.json")["spec"]
    write(at(cells["lora"], seed), spec, rows)
    with pytest.raises(UserError, match=r"lora-.*\(150 items\) and .*pissa-.*\(200\).*different items: they share 120"):
        pissa("compare", cells["pissa"], cells["lora"])


def test_samples_written_twice_are_refused(cells):
    """A file that was opened for append doubles the denominator (pitfall 22, docs/pitfalls.md)."""
    path = at(cells["lora"], 0) / "eval" / "gsm-mini.samples.jsonl"
    path.write_text(path.read_text(encoding="utf-8") * 2, encoding="utf-8")
    with pytest.raises(UserError, match="do not give the score"):
        pissa("compare", at(cells["pissa"], 0), at(cells["lora"], 0))


def test_samples_of_another_run_are_refused(cells):
    path = at(cells["lora"], 0) / "eval" / "gsm-mini.samples.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace('"paper": 0', '"paper": 1', 1), encoding="utf-8")
    with pytest.raises(UserError, match="do not give the score"):
        pissa("compare", at(cells["pissa"], 0), at(cells["lora"], 0))


def test_an_unknown_metric_names_those_that_exist(cells):
    with pytest.raises(UserError, match=r"unknown metric 'strikt'. Did you mean 'strict'\? Choices: paper, strict"):
        pissa("compare", cells["pissa"], cells["lora"], "--metric", "strikt")


def test_several_tasks_want_a_choice(cells, sweep, capsys):
    for method in SHARE:
        folder = at(cells[method], 0)
        spec = read_json(folder / "eval" / "gsm-mini.json")["spec"]
        write(folder, spec, samples(answers(method, 1)), task="other")
    with pytest.raises(UserError, match=r"2 scored tasks \(gsm-mini, other\). Choose one with --task"):
        pissa("compare", cells["pissa"], cells["lora"])
    with pytest.raises(UserError, match="unknown task 'math'.*Choices: gsm-mini, other"):
        pissa("compare", cells["pissa"], cells["lora"], "--task", "math")
    assert "Task other, metric paper" in run(capsys, cells["pissa"], cells["lora"], "--task", "other")


@pytest.mark.parametrize("given", ["nothing-none-r16", "nothing.json", "nothing.samples.jsonl", "no/folder"])
def test_missing_files_are_named(cells, given):
    path = cells["pissa"].parent / given
    with pytest.raises(UserError, match=rf"{given.removesuffix('.samples.jsonl')}(\.json)?: no such (score|record)\."):
        pissa("compare", path, cells["lora"])


def test_missing_samples_and_other_files_are_named(cells):
    (at(cells["lora"], 1) / "eval" / "gsm-mini.samples.jsonl").unlink()
    with pytest.raises(UserError, match=r"lora-.*-s1/eval/gsm-mini.samples.jsonl: no such samples"):
        pissa("compare", cells["pissa"], cells["lora"])
    other = cells["lora"].with_name("train.json")
    write_json(other, {"spec": {}, "final_loss": 0.5})
    with pytest.raises(UserError, match="train.json: not the record of a score. Give a scoring record"):
        pissa("compare", at(cells["pissa"], 1), other)


@pytest.mark.parametrize(
    ("line", "message"),
    [('{"id": 0, "prom', "not complete samples"), ('{"a": 1}', "no samples file"), ("[1]", "no samples file")],
)
def test_damaged_samples_are_named(cells, line, message):
    path = at(cells["lora"], 1) / "eval" / "gsm-mini.samples.jsonl"
    path.write_text(path.read_text(encoding="utf-8") + line, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        pissa("compare", cells["pissa"], cells["lora"])


@pytest.mark.parametrize("value", ["null", '"1"', "NaN"])
def test_a_missing_number_is_never_a_score(cells, value):
    path = at(cells["lora"], 1) / "eval" / "gsm-mini.samples.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace('"paper": 0', f'"paper": {value}', 1), encoding="utf-8")
    with pytest.raises(UserError, match=r"item \d+ has no number for metric 'paper'"):
        pissa("compare", cells["pissa"], cells["lora"])


def test_a_score_is_not_compared_with_itself(cells):
    with pytest.raises(UserError, match="A and B are the same score"):
        pissa("compare", cells["pissa"], at(cells["pissa"], 1))


def test_the_command_starts_without_torch_and_lm_eval(cells):
    """As a user runs it; and an error is one line with exit code 1."""
    words = [str(at(cells[method], 0)) for method in ("pissa", "lora")]
    code = (
        "import runpy, sys; sys.argv[1:1] = ['compare']; "
        "runpy.run_module('pissa_repro', run_name='__main__'); "
        "heavy = {'torch', 'lm_eval', 'transformers', 'datasets', 'pandas', 'matplotlib', 'scipy.stats'}; "
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, encoding="utf-8", cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "") and "Verdict: A is better" in done.stdout
    command = [sys.executable, "-m", "pissa_repro", "compare", "nowhere", "lost"]
    failed = subprocess.run(command, capture_output=True, encoding="utf-8", cwd=ROOT)
    assert failed.returncode == 1 and failed.stderr.startswith("error: nowhere: no such score.")
    assert failed.stderr.count("\n") == 1


def test_a_reader_that_has_seen_enough_is_no_error(cells):
    """As with `| head`: the other end of the pipe is closed."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "pissa_repro", "compare", str(cells["pissa"]), str(cells["lora"])]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, cwd=ROOT)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")
