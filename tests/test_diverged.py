"""A training that diverges is a result: it ends, is recorded, scored as what it is, and collected; a fault is not."""

import pytest
from helpers import Run, scored_rows
from stage import says

from pissa_repro.adapters import cells
from pissa_repro.plan.sweep import Sweep
from pissa_repro.results import scored
from pissa_repro.results.table import rows as score_rows
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import canonical, read_json, read_lines, sha256, write_json
from pissa_repro.scoring import score
from pissa_repro.stages import quant_error, study_updates, train
from pissa_repro.training import diverged

# The decay multiplies every weight by 1 - 1000 * 1000 in each step, so that no float32 lasts long.
LOST = {"learning_rate": 1000, "weight_decay": 1000, "schedule": "constant", "steps": 6}
EVERY = ["--checkpoint-steps", "1"]


def made(results, tiny_model, tiny_rows, method="lora", **changes):
    """A cell with its start, in the place that a sweep gives it; its folder of results has what was fetched."""
    sweep = Sweep(Run(results / "named", tiny_model, tiny_rows, method, **(LOST | changes)).sweep.config)
    (name,) = sweep.cells
    run = Run(paths.cell(name, results).folder, tiny_model, tiny_rows, method, **(LOST | changes))
    run.init()
    write_json(paths.model("tiny", results), read_json(run.model))
    return run


@pytest.fixture(scope="module")
def lost(tmp_path_factory, tiny_model, tiny_rows):
    """A cell that diverged."""
    run = made(tmp_path_factory.mktemp("lost"), tiny_model, tiny_rows)
    run.train(*EVERY)
    return run


def test_it_ends_at_the_step_and_leaves_no_number(lost):
    record, steps = read_json(lost.record), lost.history()
    assert record["diverged"] == record["steps"] == len(steps) == 3 < LOST["steps"]
    assert record["final_loss"] is None and record["update"] is None
    assert steps[-1].loss != steps[-1].loss and all(step.loss == step.loss for step in steps[:-1])
    assert [path.name for path in lost.trained.iterdir()] == ["README.md"] and not lost.scratch.exists()
    assert "step 3" in (lost.trained / "README.md").read_text(encoding="utf-8")


def test_no_other_record_has_the_key(tmp_path, tiny_model, tiny_rows):
    run = made(tmp_path, tiny_model, tiny_rows, weight_decay=0, learning_rate=1e-3)
    assert "diverged" not in run.train() and run.factors.is_dir()
    run.rows = scored_rows(tmp_path)
    assert "diverged" not in run.evaluate()


@pytest.mark.parametrize("method", ["full", "sorsa", "lora_pro", "pissa_adalora"])
def test_whole_weights_and_hooks_diverge_alike(tmp_path, tiny_model, tiny_rows, method):
    """Hooks that compute with gradients and parts are not asked about what is no number."""
    run = made(tmp_path, tiny_model, tiny_rows, method)
    assert run.train()["diverged"] == 3
    assert [path.name for path in run.trained.iterdir()] == ["README.md"]


@pytest.mark.parametrize("stops", ["before", "at its end"])
def test_a_kill_changes_nothing_and_no_checkpoint_lies_beyond_it(
    tmp_path, tiny_model, tiny_rows, lost, stops, monkeypatch
):
    run = made(tmp_path, tiny_model, tiny_rows)
    if stops == "before":
        run.fail_at(2, *EVERY)
    else:
        with monkeypatch.context() as patch:
            patch.setattr(train, "build_record", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                run.train(*EVERY)
        assert not (run.scratch / "checkpoint-3").exists()
    record, whole = run.train(*EVERY), read_json(lost.record)
    assert record["resumed_from"] in (1, 2)
    assert run.steps.read_bytes() == lost.steps.read_bytes()
    own = ("provenance", "train_seconds", "resumed_from")
    assert {k: v for k, v in record.items() if k not in own} == {k: v for k, v in whole.items() if k not in own}


def test_a_start_that_is_no_number_is_a_fault(tmp_path, tiny_model, tiny_rows, monkeypatch):
    """Before a rate has acted, also in the steps of a warmup whose rate is 0."""
    run, honest = made(tmp_path, tiny_model, tiny_rows), train.prepare

    def broken(*args):
        prepared = honest(*args)
        next(p for p in prepared.model.parameters() if p.requires_grad).data[0, 0] = float("nan")
        return prepared

    monkeypatch.setattr(train, "prepare", broken)
    says(run.train, "step 1", "loss is nan", "at fault")
    assert not run.record.exists() and not run.trained.exists()


@pytest.mark.parametrize(("rates", "fault"), [([0.0, 1e-3], True), ([1e-3, 1e-3], False)])
def test_a_warmup_of_rate_0_moves_nothing(rates, fault):
    nan = float("nan")
    history = [{"step": i, "loss": loss, "learning_rate": rates[i - 1]} for i, loss in ((1, 2.0), (2, nan))]
    if fault:
        says(lambda: diverged.check_moved(history), "step 2", "before any weight has moved")
    else:
        diverged.check_moved(history)
    assert diverged.step_of([*history, {"train_loss": nan}]) == 2


def test_it_is_scored_without_a_number_and_collected(lost):
    """No model is loaded for it: it has none. Case 21: what the training has seen is counted all the same."""
    results, (cell,) = lost.folder.parents[3], lost.sweep.cells.values()
    given, lost.rows = lost.rows, scored_rows(results)
    record = lost.evaluate("--trained-on", str(given))
    kept = lost.generated.read_bytes()
    assert lost.evaluate("--trained-on", str(given))["diverged"] == 3 and lost.generated.read_bytes() == kept
    assert (record["diverged"], record["metrics"], record["generated"]["runs"]) == (3, {}, [])
    assert record["seen_in_training"] == 0 and read_lines(lost.folder / "task.samples.jsonl") == []
    home = paths.cell(cell.name, results)
    write_json(home.score("task"), record)
    write_json(paths.data("rows", results), {"sha256": sha256(lost.rows)})
    write_json(home.train, read_json(home.train) | {"data_sha256": sha256(lost.rows)})
    (row,) = score_rows(lost.sweep, results)
    assert (row["cell"], row["task"], row["metric"], row["diverged"]) == (cell.name, "task", "paper", 3)
    assert row["final_loss"] is None and not {"value", "stderr", "n"} & row.keys()
    assert "diverged at step 3" in score.rescore(home.score("task"), None)
    says(lambda: scored.read(home.score("task"), "paper"), "diverged at step 3", "no score to compare")


def test_what_needs_its_weights_is_refused(lost):
    for folder in (lost.folder, lost.trained):
        says(lambda folder=folder: cells.find(folder), "diverged at step 3", "left no weights")
    with pytest.raises(UserError, match="diverged at step 3"):
        diverged.refuse(lost.trained)


def test_studies_of_its_weights_have_the_step_in_the_place_of_numbers(lost, tmp_path):
    spec, out = canonical({"stage": "s", "init": lost.init_spec, "evaluated_as": ["none"]}), tmp_path / "out.json"
    same = ["--spec", spec, "--model", str(lost.model), "--trained", str(lost.trained), "--gpus", "0"]
    for stage, start in ((study_updates, "--init"), (quant_error, "--factors")):
        stage.main([*same, start, str(lost.start), "--out", str(out)])
        record = read_json(out)
        assert record["diverged"] == 3 and not {"modules", "mean", "evaluated_as"} & record.keys()
        assert record["trained_sha256"] == read_json(lost.record)["trained_sha256"]
        out.unlink()
