"""Where a training is watched: the curve arrives under the cell's name, and what is trained does not change."""

import importlib.util
import json
import sys

import pytest
from helpers import Run
from stage import says
from test_workflow import snakemake

from pissa_repro.training import sinks

# What TensorBoardCallback asks of tensorboardX, for machines without either: a line for each call.
WRITER = """
import json, os
class SummaryWriter:
    def __init__(self, log_dir):
        os.makedirs(log_dir, exist_ok=True)
        self.file = open(os.path.join(log_dir, "events.jsonl"), "a", encoding="utf-8")
    def add_scalar(self, name, value, step): print(json.dumps([name, value, step]), file=self.file)
    def add_text(self, name, value, step=0): print(json.dumps([name, value, step]), file=self.file)
    def flush(self): self.file.flush()
    def close(self): self.file.close()
"""
SECRET = "not-to-be-seen"
ABSENT = [name for name, modules in sinks.MODULES.items() if not any(map(importlib.util.find_spec, modules))]


@pytest.fixture
def run(tmp_path, tiny_model, tiny_rows, monkeypatch):
    """A cell in model/data/cell of a folder of its own, with its start; the working folder is there, too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", "")  # so that what the stage sets goes at the end
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR")
    one = Run(tmp_path / "model/data/cell", tiny_model, tiny_rows, "lora", steps=3)
    one.init()
    return one


def losses(run) -> list[float]:
    return [float(step.loss) for step in run.history()]


@pytest.mark.skipif(bool(importlib.util.find_spec("tensorboard")), reason="the next test has the real one")
def test_the_curve_arrives_under_the_cells_name_and_nothing_else_changes(run, tmp_path, monkeypatch):
    package = tmp_path / "packages/tensorboardX"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(WRITER, encoding="utf-8")
    alone = run.train()
    steps = run.steps.read_text(encoding="utf-8")
    monkeypatch.syspath_prepend(str(package.parent))
    for name in ("HF_TOKEN", "WANDB_API_KEY", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, SECRET)
    watched = run.train("--report-to", "tensorboard")
    assert run.steps.read_text(encoding="utf-8") == steps
    changing = ("provenance", "train_seconds")
    assert {key: value for key, value in watched.items() if key not in changing} == {
        key: value for key, value in alone.items() if key not in changing
    }
    text = (tmp_path / "logs/tensorboard/model/data/cell/events.jsonl").read_text(encoding="utf-8")
    calls = [json.loads(line) for line in text.splitlines()]
    assert [value for name, value, _ in calls if name == "train/loss"] == pytest.approx(losses(run), abs=1e-4)
    assert SECRET not in text and SECRET not in run.record.read_text(encoding="utf-8")
    sys.modules.pop("tensorboardX", None)


def test_tensorboard_itself_holds_the_curve(run, tmp_path, monkeypatch):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run.train("--report-to", "tensorboard")
    events = reader.EventAccumulator(str(tmp_path / "logs/tensorboard/model/data/cell"))
    events.Reload()
    assert [event.value for event in events.Scalars("train/loss")] == pytest.approx(losses(run), abs=1e-4)


@pytest.mark.parametrize("name", ABSENT)
def test_a_sink_that_is_not_installed_is_refused_before_the_training(run, name):
    says(lambda: run.train("--report-to", name), f"report_to: {name} is not installed", f"pip install {name}")
    assert not run.scratch.exists() and not run.trained.exists()


@pytest.mark.parametrize("text", ["tensorbord", "none,tensorbord", "", "wandb;mlflow"])
def test_a_word_that_is_no_sink_is_refused(text):
    says(lambda: sinks.named(text), "report_to: unknown sink", "tensorboard, trackio, wandb")


def test_none_is_no_sink_and_several_count_once(monkeypatch):
    assert sinks.named("none") == () and sinks.UNWATCHED.options() == {"report_to": "none"}
    monkeypatch.setattr(sinks, "MODULES", dict.fromkeys(sinks.MODULES, ("json",)))
    assert sinks.named("mlflow, wandb,mlflow") == ("mlflow", "wandb")


def test_nothing_leaves_the_machine_unless_the_environment_says_so(tmp_path):
    watch = sinks.Watched(("mlflow", "wandb"), "m/d/c")
    found = sinks.prepare(watch, {}, tmp_path)
    assert found["WANDB_MODE"] == "offline" and found["WANDB_DIR"] == str(tmp_path / "wandb")
    assert found["MLFLOW_TRACKING_URI"] == f"sqlite:///{tmp_path}/mlflow/mlflow.db"
    own = {"WANDB_MODE": "online", "MLFLOW_TRACKING_URI": "http://tracking"}
    assert not sinks.prepare(watch, own, tmp_path).keys() & own.keys()
    board = sinks.prepare(sinks.Watched(("tensorboard",), "m/d/c"), {"TENSORBOARD_LOGGING_DIR": "runs"}, tmp_path)
    assert board == {"TENSORBOARD_LOGGING_DIR": "runs/m/d/c"}, "a folder a cell, also below the user's own"


def test_the_workflow_passes_it_on_and_refuses_before_the_first_job(tmp_path):
    asked = ("--set-resources", "train:report_to=tensorboard,mlflow")
    assert "--report-to tensorboard,mlflow " in snakemake("-n", "-p", "train_all", *asked, folder=tmp_path).stdout
    wrong = ("--set-resources", "train:report_to=tensorbord")
    done = snakemake("--cores", "1", "train_all", *wrong, folder=tmp_path, check=False)
    assert done.returncode and "unknown sink 'tensorbord'. Did you mean 'tensorboard'?" in done.stdout + done.stderr
    assert not (tmp_path / "results").exists()
