"""One process generates many cells; what is finished is never generated again."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from commands import pissa
from helpers import Run, counted, scored_rows
from judge_server import Judge, running
from stage import says

from pissa_repro.model import load
from pissa_repro.model.checks import logits
from pissa_repro.model.merged import merged_model
from pissa_repro.plan.batches import Batches
from pissa_repro.plan.config import ROOT
from pissa_repro.runtime.record import read_json, read_lines, write_lines
from pissa_repro.scoring import generations
from pissa_repro.scoring.engines import HF
from pissa_repro.scoring.generator import Generator, Job
from pissa_repro.sources.fetched import stored_model
from pissa_repro.stages import evaluate, generate

ITEMS = 24


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_model, tiny_rows):
    """A trained cell that is scored on 24 rows of different lengths."""
    folder = tmp_path_factory.mktemp("cell")
    run = Run(folder, tiny_model, tiny_rows, "pissa", steps=6, learning_rate=5e-3, max_new_tokens=12)
    run.init()
    run.train()
    run.rows = scored_rows(folder, ITEMS)
    rows = read_lines(run.rows)
    write_lines(run.rows, [row | {"prompt": row["prompt"] * (1 + n % 5)} for n, row in enumerate(rows)])
    return run


@pytest.fixture
def fresh(trained, tmp_path):
    """The same cell with nothing generated yet."""
    trained.generated = tmp_path / "generated.jsonl"
    for path in (trained.folder / "task.json", trained.folder / "task.samples.jsonl"):
        path.unlink(missing_ok=True)
    return trained


def items(path):
    """The (item, turn) of every line, repetitions included."""
    lines = [json.loads(line) for line in path.read_text().split("\n") if line] if path.exists() else []
    return [(line["id"], line["turn"]) for line in lines if "id" in line]


def comparable(record):
    """A score's record without what time and process decide."""
    return {key: value for key, value in record.items() if key not in ("provenance", "generated")}


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


def test_a_finished_cell_is_not_generated_again(fresh, monkeypatch):
    first = fresh.evaluate()
    started = counted(monkeypatch, HF, "take")
    again = fresh.evaluate()
    assert not started and len(items(fresh.generated)) == ITEMS
    assert comparable(again) == comparable(first)


def test_other_weights_are_generated_anew(fresh, tmp_path):
    """The same spec trained again to other bits: what was generated before is not the new cell's."""
    first = fresh.evaluate()
    other = tmp_path / "other"
    shutil.copytree(fresh.trained, other)
    path = other / "adapter_model.safetensors"
    from safetensors.torch import load_file, save_file

    save_file({key: 1.1 * tensor for key, tensor in load_file(path).items()}, path, {"format": "pt"})
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
    work = jobs_of(fresh, tmp_path, [fresh.trained, fresh.start, fresh.trained])
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
    (name,) = Batches(sweep).by_name
    cell = results / "cells" / fresh.cell.name
    shutil.copytree(fresh.trained, cell / "trained")
    shutil.copytree(fresh.start, results / "init" / fresh.cell.start)
    rows = results / "fetch" / "data" / "rows.jsonl"
    rows.parent.mkdir(parents=True)
    shutil.copy(fresh.rows, rows)
    spec, out = json.dumps(Batches(sweep).spec(name)), results / "generated" / f"{name}.json"
    generate.main(["--spec", spec, "--model", str(fresh.model), "--results", str(results), "--out", str(out)])
    assert read_json(out)["jobs"] == [f"{fresh.cell.name} task"]
    loaded = counted(monkeypatch, load, "load_base")
    kept = generations.place(cell, "task", sweep.generate_spec(fresh.cell, "task"))
    evaluate.main([
        "--spec", json.dumps(sweep.evaluate_spec(fresh.cell, "task")), "--data", str(rows),
        "--generations", str(kept), "--record", str(cell / "eval" / "task.json"),
        "--samples", str(cell / "eval" / "task.samples.jsonl"),
    ])  # fmt: skip
    assert not loaded
    assert comparable(read_json(cell / "eval" / "task.json")) == comparable(fresh.evaluate())


def test_scoring_says_what_is_missing(fresh):
    fresh.evaluate()
    argv = fresh.evaluate_argv()
    without = [w for n, w in enumerate(argv) if not {w, argv[n - 1]} & {"--trained", "--model"}]
    lines = fresh.generated.read_text().splitlines(keepends=True)
    fresh.generated.write_text("".join(lines[:-5]))  # four items, and the end of the run
    says(lambda: evaluate.main(without), f"4 of {ITEMS} items are not generated yet", "results/generated")
    fresh.generated.unlink()
    says(lambda: evaluate.main(without), "no generations")
    other = [w.replace('"max_new_tokens":12', '"max_new_tokens":13') for w in without]
    fresh.generated.write_text("".join(lines))
    says(lambda: evaluate.main(other), "generated from another spec")


def test_rescoring_applies_the_rules_of_today_without_a_model(fresh, tmp_path, monkeypatch):
    """A record of an older rule, moved to another place: scores change, generations and their origin do not."""
    folder = tmp_path / "results" / "cells" / "m" / "d" / "c" / "eval"
    folder.mkdir(parents=True)
    record = fresh.evaluate()
    (tmp_path / "results" / "fetch" / "data").mkdir(parents=True)
    shutil.copy(fresh.rows, tmp_path / "results" / "fetch" / "data" / "rows.jsonl")
    samples = read_lines(fresh.folder / "task.samples.jsonl")
    samples[3] |= {"generated": f"The answer is: {samples[3]['target'].rpartition(' ')[2]}", "paper": 0.0}
    write_lines(folder / "task.samples.jsonl", samples)
    (folder / "task.json").write_text(json.dumps(record | {"spec": record["spec"] | {"version": 0}}))
    loaded = counted(monkeypatch, load, "load_base")
    pissa("rescore", folder / "task.json")
    again = read_json(folder / "task.json")
    assert not loaded and again["spec"] == record["spec"] and again["generated"] == record["generated"]
    assert again["metrics"]["paper"]["value"] == pytest.approx(record["metrics"]["paper"]["value"] + 1 / ITEMS)
    assert read_lines(folder / "task.samples.jsonl")[3]["paper"] == 1
    shutil.rmtree(tmp_path / "results" / "fetch")
    says(lambda: pissa("rescore", folder / "task.json"), "no rows with the hash", "--data")


def test_a_score_needs_its_arguments(fresh, capsys):
    with pytest.raises(SystemExit):
        evaluate.main(["--data", str(fresh.rows)])
    assert "the following arguments are required: --spec" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        evaluate.main([word for word in fresh.evaluate_argv() if word not in ("--model", str(fresh.model))])
    assert "--model and --trained go together" in capsys.readouterr().err


def test_rescoring_on_other_rows_is_refused(fresh, tmp_path):
    fresh.evaluate()
    other = scored_rows(tmp_path, ITEMS)
    says(lambda: pissa("rescore", fresh.folder / "task.json", "--data", other), "other rows")


GENERATION = {"max_new_tokens": 40, "repetition_penalty": 1.5, "num_beams": 3, "temperature": 0.6, "top_p": 0.9}


def test_the_models_own_generation_settings_do_not_count(fresh, tmp_path):
    """Greedy is greedy: models ship lengths, penalties and sampling in generation_config.json; vLLM ignores them."""
    first = fresh.evaluate()
    stored = read_json(fresh.model)
    copy = tmp_path / "model"
    shutil.copytree(stored["path"], copy)
    given = read_json(copy / "generation_config.json")
    (copy / "generation_config.json").write_text(json.dumps(given | GENERATION))
    (tmp_path / "model.json").write_text(json.dumps(stored | {"path": str(copy)}))
    fresh.generated.unlink()
    evaluate.main([str(tmp_path / "model.json") if w == str(fresh.model) else w for w in fresh.evaluate_argv()])
    again = read_json(fresh.folder / "task.json")
    assert comparable(again) == comparable(first) and again["generated"]["tokens"] == first["generated"]["tokens"]
    load.load_base(copy).save_pretrained(tmp_path / "saved")  # sampling settings without sampling cannot be saved


def other_task(run, folder, task, rows, fields, new=16):
    """A run of the same cell whose task is another file on other rows."""
    path = folder / "other.jsonl"
    write_lines(path, rows)
    config = json.loads(json.dumps(run.sweep.config))
    config["datasets"]["other"] = {"path": str(path), "fields": {name: name for name in fields}}
    config["tasks"]["other"] = {"task": task, "dataset": "other", "max_new_tokens": new}
    spec = type(run.sweep)(config).generate_spec(run.cell, "other")
    return Job("other", spec, run.start, run.trained, path, folder / "other.generated.jsonl")


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("bfloat16", 2e-3)])
def test_perplexity_is_that_of_the_trained_model(fresh, tmp_path, dtype, tolerance):
    """Against a plain sum of log-probabilities, every token predicted once, the first one from bos.

    In bfloat16 too: the sum itself is not rounded to that type.
    """
    texts = ["Ann has 2 apples.\n" * 12, "Bob buys 3 more and eats 4.\n" * 9]
    job = other_task(fresh, tmp_path, "perplexity", [{"text": text} for text in texts], ["text"])
    job.spec["dtype"] = dtype
    Generator(stored_model(fresh.model), 4).run([job])
    found = generations.read(job.out)
    assert set(found.turns) == {0, 1}
    tokenizer = load.load_tokenizer(stored_model(fresh.model)["path"])
    model = merged_model(fresh.spec, stored_model(fresh.model), fresh.start, fresh.trained, [[1, 2]]).model
    for item, text in enumerate(texts):
        ids = tokenizer(text)["input_ids"]
        ids = ids if ids[0] == tokenizer.bos_token_id else [tokenizer.bos_token_id, *ids]
        with torch.no_grad():
            rows = model.to(load.DTYPES[dtype])(torch.tensor([ids])).logits[0, :-1].double().log_softmax(-1)
        wanted = sum(row[token].item() for row, token in zip(rows, ids[1:], strict=True))
        (one,) = found.turns[item]
        assert one["loglikelihood"] == pytest.approx(wanted, rel=tolerance), (one, len(ids))


def test_the_second_turn_answers_the_conversation(fresh, tmp_path):
    """MT-Bench's second prompt holds the first answer; a kill between the turns would lose neither."""
    rows = [{"turns": ["What is 2 + 2?", "And 3 more?"], "category": "math", "reference": None}]
    job = other_task(fresh, tmp_path, "mt_bench", rows, ["turns", "category", "reference"])
    Generator(stored_model(fresh.model), 4).run([job])
    first, second = generations.read(job.out).turns[0]
    prompt = job.task.request(0, [first]).args[0]
    assert first.strip() in prompt and "And 3 more?" in prompt and prompt.count("### Response:") == 2
    stored = stored_model(fresh.model)
    model = merged_model(fresh.spec, stored, fresh.start, fresh.trained, [[1, 2]]).model
    tokenizer = load.load_tokenizer(stored["path"])
    ids = tokenizer(prompt)["input_ids"]
    start = len(ids)
    while len(ids) - start < 16 and tokenizer.eos_token_id not in ids[start:]:
        ids.append(int(logits(model, [ids])[0].argmax()))
    assert second == tokenizer.decode(ids[start:], skip_special_tokens=True)


def test_mt_bench_is_judged_where_its_answers_are_kept(fresh, tmp_path, monkeypatch):
    """Without a judge the answers are kept and the message says how to go on; with one, nothing is generated again."""
    rows = [
        {"turns": ["What is 2 + 2?", "And 3 more?"], "category": "math", "reference": ["4", "7"]},
        {"turns": ["Write a line.", "Shorter."], "category": "writing", "reference": None},
    ]
    job = other_task(fresh, tmp_path, "mt_bench", rows, ["turns", "category", "reference"])
    spec = {"stage": "evaluate", "version": 1, "generate": job.spec}
    record = tmp_path / "eval" / "mt.json"
    argv = [
        "--spec", json.dumps(spec), "--data", str(job.rows), "--generations", str(job.out), "--record", str(record),
        "--samples", str(tmp_path / "eval" / "mt.samples.jsonl"),
    ]  # fmt: skip
    Generator(stored_model(fresh.model), 4).run([job])
    monkeypatch.delenv("PISSA_REPRO_JUDGE_URL", raising=False)
    monkeypatch.delenv("PISSA_REPRO_JUDGE_MODEL", raising=False)
    says(lambda: evaluate.main(argv), "PISSA_REPRO_JUDGE_URL")
    before = job.out.read_bytes()
    with running(Judge(say=lambda prompt: "Rating: [[3]]" if "7" in prompt else "Rating: [[8.5]]")) as server:
        monkeypatch.setenv("PISSA_REPRO_JUDGE_URL", server.url)
        monkeypatch.setenv("PISSA_REPRO_JUDGE_MODEL", "some-judge")
        evaluate.main(argv)
    found = read_json(record)
    assert found["metrics"]["paper"]["n"] == 2 and 3 <= found["metrics"]["paper"]["value"] <= 8.5
    assert found["judge"]["model"] == "some-judge" and found["judge"]["judgements"] == 4
    kept = read_lines(job.out.with_suffix(".judgements.jsonl"))
    assert len(kept) >= 4 and job.out.read_bytes() == before
    record.unlink()
    evaluate.main(argv)  # every judgement is kept: no server is needed
    assert read_json(record)["metrics"] == found["metrics"]


def test_programs_are_scored_in_the_sandbox_and_the_record_says_which(fresh, tmp_path):
    test = "def check(candidate):\n    assert candidate(2) == 4\n"
    header = 'def double(x):\n    """Twice x."""\n'
    row = {"prompt": header, "response": "    return 2 * x\n", "test": test, "entry_point": "double"}
    job = other_task(fresh, tmp_path, "humaneval", [row, row], ["prompt", "response", "test", "entry_point"])
    Generator(stored_model(fresh.model), 4).run([job])
    lines = [json.loads(line) for line in job.out.read_text().split("\n") if line]
    for line in lines:
        if line.get("id") == 0:
            line["generated"] = "```python\ndef double(x):\n    return 2 * x\n```"
    job.out.write_text("".join(json.dumps(line) + "\n" for line in lines))
    spec, record = {"stage": "evaluate", "version": 1, "generate": job.spec}, tmp_path / "code.json"
    evaluate.main([
        "--spec", json.dumps(spec), "--data", str(job.rows), "--generations", str(job.out), "--record", str(record),
        "--samples", str(tmp_path / "code.samples.jsonl"),
    ])  # fmt: skip
    found = read_json(record)
    assert found["metrics"]["paper"]["value"] == 0.5 and found["sandbox"]["kind"] in ("bubblewrap", "namespaces")
    assert found["sandbox"]["weaknesses"]
