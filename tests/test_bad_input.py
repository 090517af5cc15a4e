"""What a user can get wrong, and what a machine can: every case ends in one message, and no half output."""

import copy
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from pissa_repro import checkpoint, config, data, fetch, record
from pissa_repro.errors import UserError, run_stage
from pissa_repro.sweep import Sweep

ROOT = Path(__file__).resolve().parent.parent
FIELDS = {"prompt": "question", "response": "answer"}
LLAMA = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
GOOD = {
    "models": {"tiny": {"path": "somewhere"}},
    "datasets": {"sums": {"path": "s.jsonl", "fields": FIELDS}, "tests": {"path": "t.jsonl", "fields": dict(FIELDS)}},
    "methods": {"my-pissa": {"init": "pissa", "options": {"alternations": 5}}},
    "train": {"epochs": 1, "batch_size": 4, "max_length": 64, "dtype": "float32", "target_modules": LLAMA},
    "tasks": {"score": {"task": "gsm8k", "dataset": "tests", "max_new_tokens": 8}},
    "overrides": [{"where": {"quant": "nf4"}, "set": {"learning_rate": 1.0e-3}, "why": "a reason of ten letters"}],
    "sweep": {
        "models": ["tiny"], "datasets": ["sums"], "cells": [{"method": "my-pissa", "quant": "nf4"}], "ranks": [4],
        "learning_rates": [1.0e-3], "seeds": [0], "tasks": ["score"],
    },
}  # fmt: skip


def says(call, *words):
    """The call is refused, and its message has every word."""
    with pytest.raises(UserError) as caught:
        call()
    for word in words:
        assert word in str(caught.value), (word, str(caught.value))


def changed(path, value):
    """GOOD with one place changed: "train.epochs", "sweep.cells.0.quant"."""
    new = copy.deepcopy(GOOD)
    *way, last = path.split(".")
    place = new
    for step in way:
        place = place[int(step)] if isinstance(place, list) else place.setdefault(step, {})
    place[int(last) if isinstance(place, list) else last] = value
    return new


def test_the_good_config_is_good():
    assert list(Sweep(copy.deepcopy(GOOD)).cells) == ["tiny/sums/my-pissa-nf4-r4-lr0.001-s0"]


WRONG = [
    # unknown keys: the place, the nearest word, the choices
    ("modles", {}, ["config:", "'modles'", "'models'", "datasets"]),
    ("train.bach_size", 4, ["config.train", "'bach_size'", "'batch_size'", "max_length"]),
    ("models.tiny.revison", "main", ["config.models.tiny", "'revison'", "'revision'", "hub"]),
    ("datasets.sums.feilds", {}, ["config.datasets.sums", "'feilds'", "'fields'"]),
    ("datasets.sums.fields.anwser", "a", ["config.datasets.sums.fields", "'anwser'", "response"]),
    ("methods.my-pissa.option", {}, ["config.methods.my-pissa", "'option'", "'options'"]),
    ("tasks.score.max_tokens", 8, ["config.tasks.score", "'max_tokens'", "'max_new_tokens'"]),
    ("overrides.0.set.learningrate", 1, ["config.overrides.0.set", "'learningrate'", "'learning_rate'"]),
    ("overrides.0.where.qant", "nf4", ["config.overrides.0.where", "'qant'", "'quant'"]),
    ("sweep.rank", [4], ["config.sweep", "'rank'", "'ranks'"]),
    ("sweep.cells.0.qant", "nf4", ["config.sweep.cells.0", "'qant'", "'quant'"]),
    # a misspelt key is missed under its right name, too; the misspelling is what helps
    ("train", {**{k: v for k, v in GOOD["train"].items() if k != "epochs"}, "epcohs": 1}, ["'epcohs'", "'epochs'"]),
    # unknown words
    ("sweep.models", ["tinny"], ["config.sweep.models", "model 'tinny'", "'tiny'", "Choices: tiny"]),
    ("sweep.datasets", ["sum"], ["config.sweep.datasets", "dataset 'sum'", "'sums'", "tests"]),
    ("sweep.tasks", ["scroe"], ["config.sweep.tasks", "task 'scroe'", "'score'"]),
    ("sweep.cells.0.method", "pisa", ["config.sweep.cells[0].method", "method 'pisa'", "'pissa'", "olora", "my-pissa"]),
    ("sweep.cells.0.quant", "nf5", ["config.sweep.cells[0].quant", "quant 'nf5'", "'nf4'", "none", "int8"]),
    ("methods.my-pissa.init", "pisa", ["config.methods.my-pissa.init", "method 'pisa'", "'pissa'", "milora"]),
    ("methods.my-pissa.options", {"alternation": 5}, ["config.methods.my-pissa", "'alternation'", "'alternations'"]),
    ("tasks.score.task", "gsm8", ["config.tasks.score.task", "task file 'gsm8'", "'gsm8k'"]),
    ("tasks.score.dataset", "test", ["config.tasks.score.dataset", "dataset 'test'", "'tests'", "sums"]),
    ("overrides.0.where", {"model": "tinny"}, ["config.overrides[0].where.model", "'tinny'", "'tiny'"]),
    ("overrides.0.where", {"method": "lor"}, ["config.overrides[0].where.method", "'lor'", "'lora'"]),
    # pairs that make no sense, with the reason
    (
        "sweep.cells.0",
        {"method": "full", "quant": "nf4"},
        ["config.sweep.cells[0]", "(full, nf4)", "cannot be trained"],
    ),
    ("sweep.cells.0", {"method": "loftq", "quant": "none"}, ["config.sweep.cells[0]", "(loftq, none)", "it is LoRA"]),
    # values
    ("train.dtype", "float16", ["config.train.dtype", "'float16'", "float32", "bfloat16"]),
    ("train.max_length", 0, ["config.train.max_length", "0"]),
    ("train.alpha", "rnak", ["config.train.alpha", "rank"]),
    ("train", None, ["config.train", "object"]),
    ("sweep.ranks", [0], ["config.sweep.ranks.0", "0"]),
    ("sweep.ranks", [], ["config.sweep.ranks"]),
    ("sweep.seeds", [1, 1], ["config.sweep.seeds"]),
    ("sweep.learning_rates", ["1e-3"], ["config.sweep.learning_rates.0", "'1e-3'"]),  # YAML 1.1 reads 1e-3 as a text
    ("sweep.learning_rates", [float("nan")], ["config"]),
    ("overrides.0.why", "because", ["config.overrides.0.why", "'because'"]),
    ("models.tiny", {"path": "a", "hub": "b/c", "revision": "main"}, ["config.models.tiny", "'path'", "'hub'"]),
    ("models.tiny", {"hub": "b/c"}, ["config.models.tiny", "'revision'"]),
    ("models.tiny.hub", "b", ["config.models.tiny"]),
    ("datasets.sums", {"hub": "b/c", "revision": "main", "fields": FIELDS}, ["config.datasets.sums", "'file'"]),
    ("methods.my-pissa.lora", {"use_dorra": True}, ["config.methods.my-pissa.lora", "'use_dorra'", "'use_dora'"]),
    ("methods.my-pissa.lora", {"r": 8}, ["config.methods.my-pissa.lora", "'r'", "config.sweep.ranks"]),
    ("methods.my-pissa.lora", {"lora_alpha": 8}, ["config.methods.my-pissa.lora", "config.train.alpha"]),
    ("methods.my-pissa.lora", {"rank_pattern": {"q_proj": 2}}, ["'rank_pattern'", "config.sweep.ranks"]),
    ("methods.my-pissa.lora", {"modules_to_save": ["lm_head"]}, ["'modules_to_save'", "factors only"]),
    ("methods.my-pissa.options", {"alternations": 0}, ["config.methods.my-pissa", "alternations", "whole number"]),
]


@pytest.mark.parametrize(
    ("path", "value", "words"), WRONG, ids=[f"{path}={str(value)[:30]}" for path, value, _ in WRONG]
)
def test_a_wrong_config_names_the_place(path, value, words):
    says(lambda: Sweep(changed(path, value)), *words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["mapping", "NoneType"]),
        ("- a\n- b\n", ["mapping", "list"]),
        ("a: [1,\n", ["not valid YAML", "line 2"]),
        ("a: \xff", ["not valid YAML"]),
        ("models: {tiny: {hub: a/b, revision: 2024-01-31}}", ["date", "quotes"]),
        (None, ["cannot be read", "No such file"]),
    ],
)
def test_a_config_file_that_is_none(tmp_path, text, words):
    path = tmp_path / "mine.yaml"
    if text is not None:
        path.write_bytes(text.encode("latin-1"))
    says(lambda: config.load(path), *words, *([] if "date" in words else [str(path)]))


def test_the_fields_of_lora_are_those_of_peft():
    """They are read from PEFT's source without importing it; what the import says must be the same."""
    from dataclasses import fields

    from peft import LoraConfig, PeftConfig

    assert config.lora_fields() == {f.name for f in fields(LoraConfig)} - {f.name for f in fields(PeftConfig)}
    assert set(config.OWNED) < config.lora_fields()
    Sweep(changed("methods.my-pissa.lora", {"use_dora": True}))


def test_cells_that_would_share_a_start_but_differ():
    two = changed("datasets.others", {"path": "o.jsonl", "fields": FIELDS})
    two["sweep"]["datasets"] = ["sums", "others"]
    two["overrides"] = [{"where": {"dataset": "others"}, "set": {"alpha": 8}, "why": "a reason of ten letters"}]
    says(lambda: Sweep(two).starts, "config.overrides", "/others/", "Give one of them")


# ---- data


def rows_of(path, **more):
    return fetch.fetch_dataset({"path": str(path), "fields": FIELDS, **more})


LINE = b'{"question": "q", "answer": "a"}\n'
BAD_DATA = [
    ("d.jsonl", b"", ["empty"]),
    ("d.jsonl", b"\n\n", ["empty"]),
    ("d.jsonl", LINE + b'{"question": "q", "anwser": "a"}\n', ["fields.response", "row 1", "'answer'", "anwser"]),
    ("d.jsonl", LINE + b'{"question": null, "answer": "a"}\n', ["fields.prompt", "row 1", "null"]),
    ("d.jsonl", LINE + b"\n" + b'{"question": "q", \n', ["line 3", "not JSON"]),
    ("d.jsonl", LINE + b"[1, 2]\n", ["row 1", "list"]),
    ("d.jsonl", LINE + b'"text"\n', ["row 1", "str"]),
    ("d.jsonl", LINE + b'{"question": "\xff", "answer": "a"}\n', ["damaged"]),
    ("d.jsonl.gz", LINE, ["damaged"]),
    ("d.jsonl.gz", gzip.compress(LINE * 100)[:-12], ["damaged"]),
    ("d.json", b'[{"question": "q"', ["damaged"]),
    ("d.json", LINE, ["one list", "dict"]),
    ("d.parquet", LINE, ["damaged"]),
    ("d.csv", b"question,answer\nq,a\n", ["unknown data format", ".parquet", ".jsonl.gz"]),
]


@pytest.mark.parametrize(("name", "content", "words"), BAD_DATA)
def test_bad_data_names_file_and_place(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content)
    says(lambda: rows_of(path), name, *words)


def test_fewer_rows_than_asked_for(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_bytes(LINE * 3)
    says(lambda: rows_of(path, rows=4), "d.jsonl", ".rows", "4 rows asked for", "has 3")


def test_missing_data_and_unknown_split(tmp_path):
    says(lambda: rows_of(tmp_path / "none.jsonl"), "none.jsonl", "no such data file")
    says(lambda: rows_of("embedded:trian"), "'trian'", "'train'", "test")


def test_examples_longer_than_the_window_are_counted(tiny_model):
    from pissa_repro import model

    tokenizer = model.load_tokenizer(tiny_model)
    rows = [{"prompt": p, "response": r} for p, r in [("a", "b"), ("a", "b " * 300), ("a " * 300, "b")]]
    examples, lengths = data.tokenize(rows, tokenizer, 256)
    assert (lengths.examples, lengths.truncated, lengths.dropped) == (3, 1, 1)
    assert max(len(e["input_ids"]) for e in examples) == 256 and len(examples) == 2
    says(lambda: data.tokenize(rows[2:], tokenizer, 256), "config.train.max_length", "256", "prompt")


# ---- models


def test_without_a_pad_token_eos_pads_on_the_right(tiny_model):
    from pissa_repro import model

    assert "pad_token" not in json.loads((tiny_model / "tokenizer_config.json").read_text())
    tokenizer = model.load_tokenizer(tiny_model)
    batch = tokenizer(["a", "a b c"], padding=True)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    assert batch["input_ids"][0][-1] == tokenizer.eos_token_id and batch["attention_mask"][0][-1] == 0


@pytest.fixture
def broken(tiny_model, tmp_path):
    """A copy of the tiny model to damage."""
    return Path(shutil.copytree(tiny_model, tmp_path / "broken"))


def edit(path: Path, **changes) -> None:
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def test_a_tokenizer_without_eos_is_refused(broken):
    from pissa_repro import model

    edit(broken / "tokenizer_config.json", eos_token=None)
    says(lambda: model.load_tokenizer(broken), str(broken), "no eos token")


def shards(folder: Path) -> list[Path]:
    """Split the folder's weights into two shards with an index."""
    from safetensors.torch import load_file, save_file

    whole = folder / "model.safetensors"
    tensors = load_file(whole)
    names, parts = sorted(tensors), [folder / f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    where = {name: parts[i % 2] for i, name in enumerate(names)}
    for part in parts:
        save_file({name: tensors[name] for name in names if where[name] == part}, part, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: part.name for name, part in where.items()}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    whole.unlink()
    return parts


def overwrite(path: Path, position: int, content: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(position)
        file.write(content)


def cut(path: Path, size: int) -> None:
    os.truncate(path, path.stat().st_size + size if size < 0 else size)


DAMAGE = {
    "header": (
        lambda f: overwrite(f / "model.safetensors", 8, b"\xff" * 40),
        ["model.safetensors", "damaged", "header"],
    ),
    "header size": (lambda f: overwrite(f / "model.safetensors", 0, b"\xff" * 8), ["model.safetensors", "damaged"]),
    "no bytes": (lambda f: cut(f / "model.safetensors", 0), ["model.safetensors", "damaged"]),
    "cut by a byte": (lambda f: cut(f / "model.safetensors", -1), ["model.safetensors", "bytes", "promises"]),
    "cut in the header": (lambda f: cut(f / "model.safetensors", 100), ["model.safetensors", "damaged"]),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), ["neither model.safetensors", "refused"]),
    "shard gone": (lambda f: shards(f)[1].unlink(), ["model-00002-of-00002.safetensors", "missing"]),
    "shard cut": (lambda f: cut(shards(f)[0], -1), ["model-00001-of-00002.safetensors", "promises"]),
    "index gone": (
        lambda f: (shards(f), (f / "model.safetensors.index.json").unlink()),
        ["model.safetensors.index.json"],
    ),
    "index cut": (lambda f: (shards(f), cut(f / "model.safetensors.index.json", -9)), ["index.json", "damaged"]),
    "index empty": (lambda f: (shards(f), edit(f / "model.safetensors.index.json", weight_map=None)), ["damaged"]),
    "config gone": (lambda f: (f / "config.json").unlink(), ["no config.json"]),
    "config cut": (lambda f: cut(f / "config.json", -9), ["config.json", "damaged"]),
    "quantized": (
        lambda f: edit(f / "config.json", quantization_config={"bits": 4}),
        ["quantized already", "full-prec"],
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_model_is_refused_before_anything_is_made(broken, kind, tmp_path):
    damage, words = DAMAGE[kind]
    damage(broken)
    says(lambda: fetch.fetch_model({"path": str(broken)}), str(broken), *words)
    spec = json.dumps({"stage": "fetch", "version": 1, "model": {"path": str(broken)}})
    with pytest.raises(SystemExit) as caught:
        run_stage(lambda: fetch.main(["--spec", spec, "--out", str(tmp_path / "out.json")]))
    assert str(caught.value).startswith("error: ") and not (tmp_path / "out.json").exists()


def test_whole_shards_are_the_same_model(broken):
    def weights():
        return {name: weight.sum().item() for name, weight in checkpoint.targets(broken, ["q_proj", "lm_head"])}

    before = weights()
    shards(broken)
    assert weights() == before and len(before) == 3


def test_a_model_folder_that_does_not_exist(tmp_path):
    says(lambda: fetch.fetch_model({"path": str(tmp_path / "none")}), "config.models", "none")


def init_spec(**changes) -> dict:
    return {"stage": "init", "version": 1, "method": "pissa", "options": {}, "quant": "none", "rank": 4, "alpha": 4.0,
            "rslora": False, "target_modules": LLAMA, "seed": 0, **changes}  # fmt: skip


@pytest.mark.parametrize(("target", "words"), [("c_attn", ["'c_attn'", "matches no module", "q_proj"]),
                                               ("proj", ["'proj'", "matches no module"]),
                                               ("norm", ["norm", "only matrices"])])  # fmt: skip
def test_a_target_that_matches_nothing_or_no_matrix(tiny_model, target, words):
    from pissa_repro import init

    says(lambda: init.start_model(str(tiny_model), init_spec(target_modules=["q_proj", target])), *words)


@pytest.mark.parametrize("method", ["lora", "pissa", "milora", "olora"])
def test_a_rank_above_the_smaller_side(tiny_model, method):
    from pissa_repro import init

    says(
        lambda: init.start_model(str(tiny_model), init_spec(method=method, rank=65)),
        "config.sweep.ranks",
        "65",
        "model.layers.0.",
        "64",
    )


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_weight_that_is_no_number(broken, value):
    from safetensors.torch import load_file, save_file

    from pissa_repro import init

    tensors = load_file(broken / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = float(value)
    save_file(tensors, broken / "model.safetensors", {"format": "pt"})
    says(lambda: init.start_model(str(broken), init_spec()), "model.layers.1.mlp.up_proj", "NaN or infinite")


# ---- a disk that fails, a user who stops, a machine that dies


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("mode", ["w", "wb"])
def test_a_failed_write_keeps_the_old_file(tmp_path, mode):
    path = tmp_path / "record.json"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), record.atomic(path, mode) as file:
        file.write("half" if mode == "w" else b"half")
        1 / 0  # noqa: B018
    assert path.read_text() == "old" and left(tmp_path) == ["record.json"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, object()])
def test_a_record_that_cannot_be_written_leaves_none(tmp_path, value):
    with pytest.raises((ValueError, TypeError)):
        record.write_json(tmp_path / "record.json", {"a": 1.0, "score": value})
    assert left(tmp_path) == []


@pytest.mark.parametrize("content", ["", '{"a": 1', "\x00"])
def test_a_damaged_record_is_named(tmp_path, content):
    path = tmp_path / "record.json"
    path.write_text(content)
    says(lambda: record.read_json(path), str(path), "not a complete record", "again")


def test_a_missing_record_and_a_model_that_has_gone(tmp_path):
    path = tmp_path / "record.json"
    says(lambda: record.read_json(path), str(path), "no such record")
    record.write_json(path, {"path": str(tmp_path / "gone")})
    says(lambda: fetch.stored_model(path), "gone", "run again")


def command(folder: Path, data_path: str) -> list[str]:
    spec = {"stage": "fetch", "version": 1, "dataset": {"path": data_path, "fields": FIELDS}}
    outputs = ["--out", str(folder / "out.json"), "--rows", str(folder / "out.jsonl")]
    return [sys.executable, "-m", "pissa_repro.fetch", "--spec", json.dumps(spec), *outputs]


def many_rows(folder: Path, count: int) -> str:
    path = folder / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(LINE * count, compresslevel=1))
    return str(path)


def limit_file_size():
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))


def test_a_file_that_may_not_grow(tmp_path):
    """`ulimit -f`, a batch system's file limit."""
    out = tmp_path / "out"
    out.mkdir()
    done = subprocess.run(
        command(out, many_rows(tmp_path, 1000)), preexec_fn=limit_file_size, capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "error: cannot read or write" in done.stderr and "too large" in done.stderr
    assert left(out) == []


def own_mounts() -> bool:
    try:
        return (
            subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode
            == 0
        )
    except OSError:
        return False


@pytest.mark.parametrize(("options", "word"), [("size=16k", "No space left"), ("ro", "Read-only file system")])
def test_a_disk_that_is_full_or_read_only(tmp_path, options, word):
    if not own_mounts():
        pytest.skip("needs `unshare -rm` and mount, to make a small disk")
    out = tmp_path / "out"
    out.mkdir()
    stage = command(out, many_rows(tmp_path, 1000))
    script = f'mount -t tmpfs -o {options} none "{out}"; "$@"; code=$?; ls -A "{out}"; exit $code'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", *stage], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "error: cannot read or write" in done.stderr and word in done.stderr
    assert done.stdout == "", "something was left on the disk"


def test_weights_on_a_full_disk(tiny_model, tmp_path):
    """safetensors writes the large files, and has an error type of its own."""
    record.write_json(tmp_path / "model.json", fetch.fetch_model({"path": str(tiny_model)}))
    stage = [sys.executable, "-m", "pissa_repro.init", "--spec", json.dumps(init_spec())]
    stage += ["--model", str(tmp_path / "model.json"), "--out", str(tmp_path / "out")]
    done = subprocess.run(stage, preexec_fn=limit_file_size, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "error: cannot read or write" in done.stderr and "too large" in done.stderr
    assert left(tmp_path / "out") == []


@contextmanager
def unprivileged():
    """File permissions do not bind root; be nobody for a while."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_folder_that_may_not_be_written(tmp_path):
    rows = data.select([{"question": "q", "answer": "a"}], {"fields": FIELDS}, "here")
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    with pytest.raises(SystemExit) as caught, unprivileged():
        run_stage(lambda: record.write_lines(locked / "rows.jsonl", rows))
    assert str(caught.value).startswith("error: cannot read or write") and "locked" in str(caught.value)
    assert "Permission denied" in str(caught.value) and left(locked) == []


def test_an_output_that_is_a_folder(tmp_path):
    (tmp_path / "rows.jsonl").mkdir()
    with pytest.raises(SystemExit, match="cannot read or write"):
        run_stage(lambda: record.write_lines(tmp_path / "rows.jsonl", [1]))
    assert left(tmp_path) == ["rows.jsonl"]


def started(process: subprocess.Popen, path: str) -> bool:
    """Whether the process has opened the file."""
    folder = f"/proc/{process.pid}/fd"
    try:
        return any(os.readlink(f"{folder}/{fd}") == path for fd in os.listdir(folder))
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc to see when the stage is at work")
@pytest.mark.parametrize(("kill", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -15), (signal.SIGKILL, -9)])
def test_a_stopped_stage_leaves_no_output(tmp_path, kill, code):
    out, rows = tmp_path / "out", many_rows(tmp_path, 1_000_000)
    out.mkdir()
    process = subprocess.Popen(command(out, rows), stderr=subprocess.PIPE, text=True, cwd=ROOT)
    deadline = time.monotonic() + 30
    while not started(process, rows) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(kill)
    _, err = process.communicate(timeout=30)
    assert process.returncode == code and "Traceback" not in err, err
    assert ("interrupted" in err) == (kill == signal.SIGINT)
    assert left(out) == []


def test_a_machine_that_dies_in_the_middle_of_a_write(tmp_path):
    """kill -9 between the first byte and the rename: the old file stays, the half one has another name."""
    path = tmp_path / "record.json"
    path.write_text("old")
    code = (
        "import os, signal, sys; from pissa_repro import record\n"
        "with record.atomic(sys.argv[1]) as file:\n"
        "    file.write('half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT)
    assert done.returncode == -9 and path.read_text() == "old"
    assert [p.read_text() for p in tmp_path.glob(".record.json.*")] == ["half"], (
        "the half file was expected under a dot name"
    )
