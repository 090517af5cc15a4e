"""A cell is what it was made from: bits of weights, rows and start, and the configs that say how they are used."""

import json
import logging
import shutil

import pytest
from helpers import Run, scored_rows
from stage import says

from pissa_repro.model import factors
from pissa_repro.runtime.record import content, read_json, write_json
from pissa_repro.scoring import parity
from pissa_repro.scoring.generations import Generations, journal
from pissa_repro.sources.fetched import fetch_model
from pissa_repro.stages import train
from pissa_repro.training.cell import verified
from pissa_repro.training.trainer import Watch


class KilledError(BaseException):
    """As a kill: nothing is cleaned up."""


def interrupted(run: Run, monkeypatch) -> None:
    """Train up to the second checkpoint, and stop there."""
    run.init()
    honest = Watch.on_save

    def stop(self, args, state, control, **kwargs):
        honest(self, args, state, control, **kwargs)
        if state.global_step == 4:
            raise KilledError

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(Watch, "on_save", stop)
        train.main(run.train_argv("--checkpoint-steps", "2"))


def edit(path, **values):
    """Change values of a JSON file as by hand."""
    path.write_text(json.dumps(read_json(path) | values), encoding="utf-8")


def other_rows(run: Run) -> None:
    run.rows.write_text(run.rows.read_text(encoding="utf-8").replace("apples", "pears"), encoding="utf-8")


def other_weights(run: Run) -> None:
    from safetensors.torch import load_file, save_file

    copy = run.folder / "other"
    shutil.copytree(read_json(run.model)["path"], copy)
    path = copy / "model.safetensors"
    save_file({name: 1.01 * tensor for name, tensor in load_file(path).items()}, path, {"format": "pt"})
    write_json(run.model, fetch_model({"path": str(copy)}))


def other_start(run: Run) -> None:
    made = factors.load(run.start, read_json(run.model))
    made.A = {name: 1.001 * a for name, a in made.A.items()}
    factors.save(run.start, made, read_json(run.model), "lora", "none")


@pytest.mark.parametrize(
    ("method", "change", "word"),
    [("pissa", other_rows, "rows"), ("full", other_weights, "weights"), ("lora", other_start, "start")],
)
def test_a_checkpoint_of_other_content_is_not_gone_on_with(
    tmp_path, tiny_model, tiny_rows, monkeypatch, caplog, method, change, word
):
    """Case 12: the spec is the same; the rows, the weights or the start are other bits."""
    shutil.copy(tiny_rows, tmp_path / "rows.jsonl")
    run = Run(tmp_path, tiny_model, tmp_path / "rows.jsonl", method, steps=6)
    interrupted(run, monkeypatch)
    change(run)
    with caplog.at_level(logging.WARNING):
        resumed = run.train()
    assert resumed["resumed_from"] is None
    assert f"checkpoints of another training (other {word})" in caplog.text
    left = {path.name: path.read_bytes() for path in run.trained.rglob("*.safetensors")}
    assert run.train()["final_loss"] == resumed["final_loss"], "as one that was never interrupted"
    assert {path.name: path.read_bytes() for path in run.trained.rglob("*.safetensors")} == left


def test_a_checkpoint_of_the_same_content_in_another_place_is_gone_on_with(
    tmp_path, tiny_model, tiny_rows, monkeypatch
):
    """Case 20: the model folder and the rows moved, the bits are the same."""
    shutil.copytree(tiny_model, tmp_path / "model")
    run = Run(tmp_path, tmp_path / "model", tiny_rows, "pissa", steps=6)
    interrupted(run, monkeypatch)
    (tmp_path / "model").rename(tmp_path / "moved")
    write_json(run.model, fetch_model({"path": str(tmp_path / "moved")}))
    run.rows = tmp_path / "moved.jsonl"
    shutil.copy(tiny_rows, run.rows)
    assert run.train()["resumed_from"] == 4


def test_labels_are_no_content(tmp_path):
    """Case 20: the name of the base and the layout of the file do not count; a value does."""

    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({"r": 4, "base_model_name_or_path": "a", "revision": None}), encoding="utf-8")
    first = content(tmp_path)
    path.write_text(json.dumps({"revision": "1", "base_model_name_or_path": "b", "r": 4}, indent=2), encoding="utf-8")
    assert content(tmp_path) == first
    edit(path, r=8)
    assert content(tmp_path) != first


@pytest.fixture(scope="module")
def cells(tmp_path_factory, tiny_model, tiny_rows):
    """A trained cell with factors, and one of full fine-tuning, each with rows to score. Copy before a change."""
    folder = tmp_path_factory.mktemp("cells")
    made = {}
    for method in ("pissa", "full"):
        run = made[method] = Run(folder / method, tiny_model, tiny_rows, method, steps=2)
        run.init()
        run.train()
        run.rows = scored_rows(run.folder)
    return made


def changes(method, name, **values):
    return pytest.param(method, name, values, id=f"{method}-{name}-{'-'.join(values)}")


@pytest.mark.parametrize(
    ("method", "name", "values"),
    [
        changes("pissa", "trained/factors/factors.json", r=8),
        changes("pissa", "trained/factors/factors.json", lora_alpha=16),
        changes("pissa", "trained/factors/factors.json", use_rslora=True),
        changes("pissa", "trained/factors/base.json", offset=None),
        changes("pissa", "trained/adapter_config.json", lora_alpha=16),
        changes("full", "trained/config.json", rms_norm_eps=0.1),
        changes("full", "trained/generation_config.json", eos_token_id=5),
        changes("full", "trained/adapter_config.json", r=4),  # transformers would put an adapter on top
    ],
)
def test_a_trained_folder_that_was_changed_by_hand_generates_nothing(cells, method, name, values):
    """Case 12: r and lora_alpha change every answer."""
    run = cells[method]
    path = run.folder / name
    text = path.read_bytes() if path.exists() else None
    path.write_text(json.dumps((json.loads(text) if text else {}) | values), encoding="utf-8")
    try:
        says(run.evaluate, str(run.trained), path.name, "not as the training left it", "delete")
        assert not (run.folder / "task.json").exists() and not run.generated.exists()
    finally:
        path.write_bytes(text) if text else path.unlink()
        run.generated.unlink(missing_ok=True)
        (run.folder / "task.json").unlink(missing_ok=True)


@pytest.mark.parametrize("name", ["factors.json", "base.json", "factors.safetensors"])
def test_a_start_that_was_changed_by_hand_is_refused(tmp_path, cells, tiny_rows, name):
    """Case 12: before training, and before generating what was trained from it."""
    run = Run(tmp_path, read_json(cells["pissa"].model)["path"], tiny_rows, "pissa")
    for folder in ("start", "trained"):
        shutil.copytree(cells["pissa"].folder / folder, tmp_path / folder)
    shutil.copy(cells["pissa"].record, run.record)
    path = run.start / name
    if path.suffix == ".json":
        edit(path, **({"lora_alpha": 32} if name == "factors.json" else {"offset": None}))
    else:
        path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    says(run.train, str(run.start), "changed after they were made", "Delete the folder")
    run.rows = scored_rows(tmp_path)
    says(run.evaluate, str(run.start), "changed after they were made")
    assert not run.generated.exists()


def test_a_cell_is_not_scored_on_another_start_than_its_own(tmp_path, cells, tiny_rows):
    """Case 12: a sound folder, but not the one that the cell was trained from."""
    run = Run(tmp_path, read_json(cells["pissa"].model)["path"], tiny_rows, "pissa")
    for folder in ("start", "trained"):
        shutil.copytree(cells["pissa"].folder / folder, tmp_path / folder)
    shutil.copy(cells["pissa"].record, run.record)
    other_start(run)
    run.rows = scored_rows(tmp_path)
    says(run.evaluate, str(run.start), "trained from other factors", "run again")


def test_the_record_says_what_was_trained_from_what(cells):
    """Case 12: the hashes of weights, rows, start and result; none of a start where there is none."""
    record = read_json(cells["pissa"].record)
    assert record["start_sha256"] == factors.sha256(cells["pissa"].start)
    factored = {f"factors/{name}" for name in ("base.json", "factors.json", "factors.safetensors")}
    assert set(record["trained_sha256"]) == {"adapter_config.json", "adapter_model.safetensors"} | factored
    assert read_json(cells["full"].record)["start_sha256"] is None
    assert "config.json" in read_json(cells["full"].record)["trained_sha256"]


def test_generations_are_gone_on_with_where_the_same_weights_have_another_name(tmp_path, caplog):
    """Case 20: a model that moved loses no answers; other weights begin anew."""
    spec = {"task": "gsm8k", "max_new_tokens": 8, "dtype": "float32", "train": {}}
    origin = {"spec": spec, "base": {"name": "a", "commit": None, "fingerprint": "f"}, "data_sha256": "b"}
    moved = origin | {"base": {"name": "elsewhere", "commit": "c", "fingerprint": "f"}, "trained_sha256": {}}
    origin |= {"trained_sha256": {}}
    with journal(tmp_path / "kept.jsonl", origin) as kept:
        kept.add([{"id": 0, "turn": 0, "generated": "4", "tokens": 1, "seconds": 0.1}])
    for again in (moved, origin):
        with journal(tmp_path / "kept.jsonl", again) as kept:
            assert list(kept.turns) == [0]
    assert parity._source(kept) == parity._source(Generations(tmp_path / "other", [moved]))
    with journal(tmp_path / "kept.jsonl", origin | {"base": origin["base"] | {"fingerprint": "g"}}) as kept:
        assert not kept.turns
    assert "begun anew" in caplog.text


@pytest.mark.parametrize("record", [[], {}, {"trained_sha256": "a"}, {"trained_sha256": {}}], ids=str)
def test_a_record_of_another_version_is_named(tmp_path, record):
    """Case 12: no traceback for what an older version or a hand wrote."""
    (tmp_path / "trained").mkdir()
    write_json(tmp_path / "train.json", record)
    says(lambda: verified(tmp_path / "trained", None), "train.json", "no record of a training")


def test_a_config_or_a_base_that_says_nothing_is_named(tmp_path):
    """Case 12: NaN in a config beside weights, and a base.json without the base."""
    (tmp_path / "adapter_config.json").write_text('{"r": NaN}', encoding="utf-8")
    says(lambda: content(tmp_path), "adapter_config.json", "NaN")
    (tmp_path / "base.json").write_text("{}", encoding="utf-8")
    says(lambda: factors.sha256(tmp_path), "base.json", "Delete the folder")
