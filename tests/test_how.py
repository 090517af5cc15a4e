"""How a training runs: micro-batches by trial, recomputed activations, TF32."""

import logging
import sys

import pytest
import torch
from helpers import Run, config
from stage import says
from trl import SFTTrainer

from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime import processes
from pissa_repro.runtime.record import read_json
from pissa_repro.stages import train
from pissa_repro.training import micro
from pissa_repro.training.precision import products

LARGE = 1e9
TRYING = """
from pissa_repro.runtime.errors import run_stage
from pissa_repro.stages import train
from pissa_repro.training import micro

micro.TRIED_ON = ("cpu",)
run_stage(train.main)
"""


def passes(speeds: dict[int, float], fits: int = 64, peaks: dict[int, float] | None = None):
    """Trials of micro-batches with these rows a second, which run out of memory above `fits` rows."""

    def run(size: int) -> tuple[float, float]:
        if size > fits:
            raise torch.OutOfMemoryError("as a card says it")
        return size / speeds[size], (peaks or {}).get(size, 0)

    return run


@pytest.mark.parametrize(
    ("speeds", "fits", "best"),
    [
        ({1: 1, 2: 2, 4: 4, 8: 7}, 64, 8), ({1: 1, 2: 2, 4: 4, 8: 7}, 4, 4), ({1: 1, 2: 2, 4: 2.01, 8: 2.05}, 64, 2),
        ({1: 4, 2: 5, 4: 2.4, 8: 9}, 64, 2), ({1: 1}, 0, 1), ({1: 3, 2: 2, 4: 4, 8: 1}, 64, 4),
    ],
)  # fmt: skip
def test_the_fastest_that_fits_is_taken(speeds, fits, best):
    """About as fast is no reason for more memory; far slower ends the trials."""
    assert micro.fastest(micro.tried(passes(speeds, fits), [*speeds], LARGE)) == best


def test_a_part_of_the_card_stays_free():
    run = passes({1: 1, 2: 2, 4: 4}, peaks={1: 30, 2: 50, 4: 90})
    assert list(micro.tried(run, [1, 2, 4], 80)) == [1, 2]


def test_micro_batches_divide_the_batch():
    assert micro.sizes(12, 100) == [1, 2, 3, 4, 6, 12] and max(micro.sizes(512, 1000)) == 64
    assert micro.sizes(16, 5) == [1, 2, 4], "no more rows than there are"


def test_processes_try_what_leaves_an_epoch_its_rows():
    """10 rows on two processes: 1 row at a time fills up none; 2 would take two rows twice, 4 six."""
    assert micro.sizes(4, 10, world=2) == [1] and micro.sizes(4, 12, world=2) == [1, 2]
    assert micro.sizes(4, 16, world=2) == [1, 2, 4] and micro.sizes(4, 10) == [1, 2, 4]


def test_trials_leave_no_trace(tmp_path, tiny_model, tiny_rows, monkeypatch, caplog):
    """The steps are those of that micro-batch to the last bit, with dropout, too."""
    runs = [Run(tmp_path / n, tiny_model, tiny_rows, "pissa", steps=5, dropout=0.2) for n in ("given", "tried")]
    chosen, by_itself = {}, micro.fastest
    monkeypatch.setattr(micro, "TRIED_ON", ("cpu",))
    monkeypatch.setattr(micro, "fastest", lambda seconds: chosen.update(seconds) or 2)
    caplog.set_level(logging.INFO)
    for run, size in zip(runs, ("2", "auto"), strict=True):
        run.init()
        run.train("--micro-batch-size", size)
    given, tried = (read_json(run.record) for run in runs)
    assert given["batch"] == tried["batch"] == {"effective": 4, "micro": 2, "accumulation": 2, "processes": 1}
    assert runs[0].steps.read_bytes() == runs[1].steps.read_bytes()
    assert (
        given["trained_sha256"]["factors/factors.safetensors"] == tried["trained_sha256"]["factors/factors.safetensors"]
    )
    assert set(chosen) <= {1, 2, 4} and all(seconds > 0 for seconds in chosen.values()) and by_itself(chosen) in chosen
    assert "micro_batch_size: 2; rows a second of the longest rows, by micro-batch: 1: " in caplog.text


def test_processes_choose_the_same(tmp_path, tiny_model, tiny_rows, capfd):
    """Each tries for itself: no process may wait for one that has run out of memory."""
    run = Run(tmp_path, tiny_model, tiny_rows, "full", steps=2)
    processes.run([sys.executable, "-c", TRYING, *run.train_argv("--micro-batch-size", "auto")], 2)
    batch = read_json(run.record)["batch"]
    assert (batch["effective"], batch["processes"]) == (4, 2) and batch["micro"] * batch["accumulation"] == 2
    assert capfd.readouterr().err.count("micro_batch_size: ") == 1


def test_activations_that_are_computed_again_are_the_same(tmp_path, tiny_model, tiny_rows):
    steps = {}
    for way in ("yes", "no"):
        run = Run(tmp_path / way, tiny_model, tiny_rows, "pissa", steps=3, dropout=0.2)
        run.init()
        record = run.train("--gradient-checkpointing", way)
        assert record.get("gradient_checkpointing") == (True if way == "yes" else None)
        steps[way] = run.steps.read_bytes()
    assert steps["yes"] == steps["no"]


def test_tf32_is_part_of_what_a_cell_is(tmp_path, tiny_model, tiny_rows):
    """It changes results, unlike the rest; and is for cards."""
    given = config(tiny_model, tiny_rows, "pissa", "none", tf32=True)
    says(lambda: Sweep(given).cells, "config.train.tf32", "models.tiny has gpus: 0")
    given["models"]["tiny"]["gpus"] = 1
    (cell,) = Sweep(given).cells.values()
    settings = Sweep(given).train_spec(cell)["settings"]
    assert settings["tf32"] is True
    given["train"]["tf32"] = False
    plain = Sweep(given).train_spec(cell := next(iter(Sweep(given).cells.values())))["settings"]
    assert "tf32" not in plain and plain == {key: value for key, value in settings.items() if key != "tf32"}
    if not torch.cuda.is_available():
        says(products(settings).__enter__, "config.train.tf32", "Ampere")


def test_nothing_is_tried_on_a_processor(tmp_path, tiny_model, tiny_rows, caplog):
    caplog.set_level(logging.INFO)
    run = Run(tmp_path, tiny_model, tiny_rows, "full", steps=1)
    assert run.train("--micro-batch-size", "auto")["batch"]["micro"] == 4
    assert "micro_batch_size: 4; none is tried on a processor" in caplog.text


def test_a_bf16_model_is_tried_in_bf16(tmp_path, tiny_model, tiny_rows, monkeypatch):
    run, seen = Run(tmp_path, tiny_model, tiny_rows, "full", steps=1, dtype="bfloat16"), []
    monkeypatch.setattr(micro, "TRIED_ON", ("cpu",))
    step = SFTTrainer.training_step

    def stepping(*args):
        seen.append(torch.is_autocast_enabled("cpu"))
        return step(*args)

    monkeypatch.setattr(SFTTrainer, "training_step", stepping)
    run.train("--micro-batch-size", "auto")
    assert len(seen) > 2 and all(seen[:2])


def test_the_options_say_what_they_take(tmp_path, tiny_model, tiny_rows, capsys):
    run = Run(tmp_path, tiny_model, tiny_rows, "full")
    for option, value, words in (
        ("--micro-batch-size", "0", "'0' is not a number of sequences, nor auto"),
        ("--compile", "maybe", "choose from"),
        ("--gradient-checkpointing", "maybe", "choose from"),
    ):
        with pytest.raises(SystemExit):
            train.main(run.train_argv(option, value))
        assert words in capsys.readouterr().err
