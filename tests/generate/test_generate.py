"""One process generates many cells; what is finished is never generated again."""

import json
import os
import shutil
import signal
import subprocess
import sys

from generated_cells import ITEMS, as_swept, comparable, items, recorded, trained_copy
from helpers import counted

from pissa_repro.model import load
from pissa_repro.plan.config import ROOT
from pissa_repro.runtime import paths
from pissa_repro.runtime.record import read_json, read_lines
from pissa_repro.scoring import generations, lms
from pissa_repro.scoring.engines import HF
from pissa_repro.scoring.generator import Generator, Job
from pissa_repro.sources.fetched import stored_model
from pissa_repro.stages import evaluate, generate

KILLED = """
import os, signal, sys
from pissa_repro.scoring import generations
from pissa_repro.stages import evaluate
honest, items = generations.Journal.add, []
def add(self, lines):
    honest(self, lines)
    items.extend(line for line in lines if "id" in line)
    if len(items) >= int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
generations.Journal.add = add
evaluate.main(sys.argv[2:])
"""


def test_killed_again_and_again_no_item_is_generated_twice(fresh):
    """SIGKILL after some items, twice; the record is that of a run that was left alone."""
    whole = fresh.evaluate("--batch-size", "2")
    samples = read_lines(fresh.folder / "task.samples.jsonl")
    fresh.generated.unlink()
    (fresh.folder / "task.json").unlink()
    for done, more in ((0, 4), (4, 10)):
        assert len(items(fresh.generated)) == done
        command = [sys.executable, "-c", KILLED, str(more), *fresh.evaluate_argv("--batch-size", "2")]
        found = subprocess.run(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True)
        assert found.returncode == -signal.SIGKILL, found.stderr[-2000:]
    assert len(items(fresh.generated)) == 14
    record = fresh.evaluate("--batch-size", "2")
    found = items(fresh.generated)
    assert len(found) == len(set(found)) == ITEMS
    assert len(record["generated"]["runs"]) == 3 and "finished" in record["generated"]["runs"][-1]
    assert comparable(record) == comparable(whole)
    assert read_lines(fresh.folder / "task.samples.jsonl") == samples


def test_batches_are_by_length_and_change_no_answer(fresh, monkeypatch):
    """Prompts of a batch are nearly of one length; samples are in the data's order, with the answers of each alone."""
    fresh.evaluate("--batch-size", "1")
    samples = read_lines(fresh.folder / "task.samples.jsonl")
    fresh.generated.unlink()
    calls = counted(monkeypatch, lms.HF, "tok_batch_encode")
    fresh.evaluate("--batch-size", "5")
    batches = [[len(lm.tok_encode(text)) for text in texts] for lm, texts, *_ in calls]
    lengths = [one for batch in batches for one in batch]
    assert list(map(len, batches)) == [5, 5, 5, 5, 4] and lengths == sorted(lengths, reverse=True)
    assert read_lines(fresh.folder / "task.samples.jsonl") == samples
    assert lengths[0] > lengths[-1] + 30 and [one["id"] for one in samples] == list(range(ITEMS))


def test_a_finished_cell_is_not_generated_again(fresh, monkeypatch):
    first = fresh.evaluate()
    started = counted(monkeypatch, HF, "take")
    again = fresh.evaluate()
    assert not started and len(items(fresh.generated)) == ITEMS
    assert comparable(again) == comparable(first)


def test_other_weights_are_generated_anew(fresh, tmp_path):
    """The same spec trained again to other bits: what was generated before is not the new cell's."""
    first = fresh.evaluate()
    other = trained_copy(fresh, tmp_path / "other")
    path = other / "factors/factors.safetensors"
    from safetensors.torch import load_file, save_file

    save_file({key: 1.1 * tensor for key, tensor in load_file(path).items()}, path, {"format": "pt"})
    recorded(fresh, other)
    argv = [str(other) if word == str(fresh.trained) else word for word in fresh.evaluate_argv()]
    evaluate.main(argv)
    again = read_json(fresh.folder / "task.json")
    assert again["trained_sha256"] != first["trained_sha256"] and again["generated"]["tokens"] > 0
    assert len(items(fresh.generated)) == ITEMS


def jobs_of(run, tmp_path, trained):
    """One job for each folder of trained weights."""
    spec = run.sweep.generate_spec(run.cell, "task")
    return [
        Job(f"cell {n}", spec, run.start, folder, run.rows, tmp_path / f"{n}.jsonl") for n, folder in enumerate(trained)
    ]


def test_many_cells_share_one_engine_and_a_refused_one_does_not_stop_the_others(fresh, tmp_path, monkeypatch):
    """The second cell's training changed nothing; the third is generated all the same, and scoring says why."""
    started = counted(monkeypatch, Generator, "_start")
    nothing = trained_copy(fresh, tmp_path / "nothing")
    shutil.rmtree(nothing / "factors")
    shutil.copytree(fresh.start, nothing / "factors")
    recorded(fresh, nothing)
    work = jobs_of(fresh, tmp_path, [fresh.trained, nothing, fresh.trained])
    generator = Generator(stored_model(fresh.model), 8)
    refused = generator.run(work)
    assert list(refused) == ["cell 1"] and "do not change the model's output" in refused["cell 1"]
    assert generations.read(work[1].out).refused == refused["cell 1"] and not generations.read(work[0].out).refused
    assert len(started) == 1
    first, second, third = (items(job.out) for job in work)
    assert len(first) == len(third) == ITEMS and not second
    assert generations.read(work[0].out).turns == generations.read(work[2].out).turns


def test_the_batch_of_a_sweep_as_the_workflow_runs_it(fresh, tmp_path, monkeypatch):
    """Paths follow from names; the mark says which jobs are done; then scoring needs no model."""
    results, sweep = tmp_path / "results", fresh.sweep
    name, cell, argv = as_swept(fresh, results)
    out = results / "generated" / f"{name}.json"
    generate.main([*argv, "--out", str(out)])
    assert read_json(out)["jobs"] == [f"{fresh.cell.name} task"]
    loaded = counted(monkeypatch, load, "load_base")
    kept = generations.place(paths.Cell(cell), "task", sweep.generate_spec(fresh.cell, "task"))
    evaluate.main([
        "--spec", json.dumps(sweep.evaluate_spec(fresh.cell, "task")), "--data", str(fresh.rows),
        "--generations", str(kept), "--record", str(cell / "eval" / "task.json"),
        "--samples", str(cell / "eval" / "task.samples.jsonl"),
    ])  # fmt: skip
    assert not loaded
    assert comparable(read_json(cell / "eval" / "task.json")) == comparable(fresh.evaluate())


GENERATION = {"max_new_tokens": 40, "repetition_penalty": 1.5, "num_beams": 3, "temperature": 0.6, "top_p": 0.9}


def test_the_models_own_generation_settings_do_not_count(fresh, tmp_path):
    """Greedy is greedy: models ship lengths, penalties and sampling in generation_config.json; vLLM ignores them."""
    first = fresh.evaluate()
    stored = read_json(fresh.model)
    copy = tmp_path / "model"
    shutil.copytree(stored["path"], copy)
    given = read_json(copy / "generation_config.json")
    (copy / "generation_config.json").write_text(json.dumps(given | GENERATION), encoding="utf-8")
    (tmp_path / "model.json").write_text(json.dumps(stored | {"path": str(copy)}), encoding="utf-8")
    fresh.generated.unlink()
    evaluate.main([str(tmp_path / "model.json") if w == str(fresh.model) else w for w in fresh.evaluate_argv()])
    again = read_json(fresh.folder / "task.json")
    assert comparable(again) == comparable(first) and again["generated"]["tokens"] == first["generated"]["tokens"]
    load.load_base(copy).save_pretrained(tmp_path / "saved")  # sampling settings without sampling cannot be saved
