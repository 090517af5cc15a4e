"""Case 14: the workflow's check before the first costly job of a model."""

import json

import pytest
import yaml
from test_workflow import snakemake

from pissa_repro.plan import admission
from pissa_repro.plan.config import ROOT, load
from pissa_repro.plan.sweep import Sweep
from pissa_repro.results import records
from pissa_repro.runtime import paths
from pissa_repro.runtime.errors import UserError
from pissa_repro.runtime.record import attempt, unfinished, write_json

FIELDS = {"prompt": "question", "response": "answer"}
TARGET = "results/scores.csv"


def said(numbers) -> str:
    return "".join(json.dumps({"question": f"Say {n}", "answer": f"it is {n}\n#### {n}"}) + "\n" for n in numbers)


@pytest.fixture
def mine(tiny_model, tmp_path) -> list[str]:
    """A sweep of one cell whose last test row has no number: what snakemake needs to run it."""
    (tmp_path / "train.jsonl").write_text(said(range(8)), encoding="utf-8")
    (tmp_path / "test.jsonl").write_text(
        said(range(3)) + '{"question": "Say 14", "answer": "fourteen"}\n', encoding="utf-8"
    )
    train = {"path": "train.jsonl", "fields": FIELDS, "response_format": "gsm8k"}
    own = {
        "models": {"mine": {"path": str(tiny_model)}},
        "datasets": {"train": train, "test": {"path": "test.jsonl", "fields": FIELDS}},
        "train": {"max_length": 256},
        "tasks": {"g": {"task": "gsm8k", "dataset": "test", "max_new_tokens": 8}},
        "sweep": {"models": ["mine"], "datasets": ["train"], "tasks": ["g"], "ranks": [4], "seeds": [0]},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(own), encoding="utf-8")
    return [TARGET, "--cores", "1", "--configfile", str(tmp_path / "mine.yaml")]


def test_a_test_row_without_a_reference_stops_the_sweep_before_its_starts(mine, tmp_path):
    """Case 14: the row was told after all trainings (04). Mended, the model is admitted."""
    done = snakemake(*mine, folder=tmp_path, check=False)
    assert (
        done.returncode and "config.tasks.g (test): row 3: gsm8k: no number after '####'" in done.stdout + done.stderr
    )
    made = {path.name for path in (tmp_path / "results").iterdir()}
    assert made == {"fetch", "admit"}, "no start, no training"
    (tmp_path / "test.jsonl").write_text(said(range(3)), encoding="utf-8")
    record = paths.admission("sweep", "mine")
    snakemake(str(record), *mine[1:], folder=tmp_path)
    found = json.loads((tmp_path / record).read_text(encoding="utf-8"))
    assert found["tasks"]["g"]["items"] == 3 and found["provenance"] and found["spec"]["stage"] == "admit"
    assert [path.name for path in (tmp_path / record).parent.iterdir()] == ["mine.json"]


def test_an_admission_asks_once_for_each_model_and_names_all_that_is_swept():
    """Case 14: its spec grows with the distinct settings, not with the cells."""
    sweep = Sweep(load(ROOT / "config" / "config.yaml"))
    spec = admission.spec(sweep, "sweep", "mini-llama")
    assert spec["targets"] == [{"modules": sweep.config["train"]["target_modules"], "ranks": [16]}]
    assert spec["training"] == [{"rows": "gsm-mini-train", "max_length": 512}]
    assert spec["tasks"] == {"gsm-mini": {"task": "gsm8k", "rows": "gsm-mini-test", "max_new_tokens": 56}}
    assert admission.rows(spec) == [paths.rows("gsm-mini-train"), paths.rows("gsm-mini-test")]
    studied = admission.spec(sweep, "studies", "mini-llama")
    assert (studied["trained"], studied["training"], studied["tasks"]) == (False, [], {})


@pytest.mark.parametrize("other", ["spec", "weights", "rows", "none"])
def test_what_is_finished_by_its_record(tmp_path, monkeypatch, other):
    """Case 14: a job whose record is of its spec, and of what was fetched last, waits for no check."""
    monkeypatch.chdir(tmp_path)
    write_json(paths.model("m"), {"fingerprint": "a"})
    write_json(paths.data("d"), {"sha256": "b"})
    record, spec = tmp_path / "record.json", {"stage": "train", "version": 1}
    made = {"spec": spec, "base": {"fingerprint": "a"}, "data_sha256": "b"}
    write_json(record, made)
    assert records.finished(record, spec, "m", "d") and records.finished(record, spec, "m")
    several = paths.data("e")
    write_json(several, {"sha256": "e"})
    write_json(record, made | {"data_sha256": {"d": "b", "e": "e"}})
    assert records.finished(record, spec, "m", "d", "e") and not records.finished(record, spec, "m", "d")
    write_json(record, made)
    changes = {"spec": {"spec": spec | {"version": 2}}, "weights": {"base": {"fingerprint": "c"}}}
    if other == "none":
        record.unlink()
    else:
        write_json(record, made | changes.get(other, {"data_sha256": "c"}))
    assert not records.finished(record, spec, "m", "d")


def test_a_check_that_did_not_end_well_leaves_a_mark(tmp_path):
    """Case 14: refused, killed or interrupted: its mark is an input of the next check, until one passes."""
    gate = tmp_path / "mine.json"
    with attempt(gate):
        gate.write_text("{}", encoding="utf-8")
    assert not unfinished(gate)
    for count in (1, 2):
        with pytest.raises(UserError), attempt(gate):
            raise UserError("refused")
        assert len(unfinished(gate)) == count
    with attempt(gate):
        pass
    assert not unfinished(gate)
