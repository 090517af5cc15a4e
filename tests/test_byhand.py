"""Initialisation and quantization error by hand: options instead of a spec, a folder or hub id instead of a record."""

import json
import logging
import os
import re
import subprocess
import sys

import pytest
import torch
from commands import pissa
from helpers import LLAMA, Run, counted, load_json, save_weights
from hub_server import Hub, running
from stage import says
from starting import decaying

from pissa_repro import embedded, methods, quantizers
from pissa_repro.linalg import krylov, spectrum
from pissa_repro.model import factors
from pissa_repro.plan.config import ROOT
from pissa_repro.runtime.record import read_json
from pissa_repro.sources.fetched import fetch_model
from pissa_repro.stages import fetch
from pissa_repro.starts.estimate import decomposition_operations, duration, error_cost, init_cost

ESTIMATE = r"(\d+) matrices, (\S+) parameters: about (\S+) (s|min|h) and (\S+) GiB"


class ByHand:
    """The commands with the options that every test needs."""

    def __init__(self, folder, model):
        self.folder, self.model, self.out = folder, str(model), folder / "out"

    def call(self, command, *extra):
        pissa(command, self.model, "--out", self.out, "--scratch", self.folder / "kept", *extra)

    def init(self, *extra):
        self.call("decompose", "--factors", *extra)

    def errors(self, *extra):
        self.call("quant-error", *extra)
        return read_json(self.out)


@pytest.fixture
def hand(tmp_path, tiny_model):
    return ByHand(tmp_path, tiny_model)


def adapter(folder):
    return (folder / factors.FACTORS).read_bytes()


def test_several_ranks_are_as_many_folders_from_one_walk(hand, monkeypatch):
    calls = counted(monkeypatch, spectrum, "leading")
    hand.init("--rank", "4", "--rank", "8")
    assert len(calls) == 14
    assert sorted(path.name for path in hand.out.iterdir()) == ["r4", "r8"]
    for rank in (4, 8):
        config = load_json(hand.out / f"r{rank}" / factors.CONFIG)
        assert config["r"] == config["lora_alpha"] == rank
        assert factors.load(hand.out / f"r{rank}", fetch_model({"path": hand.model})).rank == rank


def test_one_rank_is_the_folder_itself(hand):
    hand.init("--rank", "4")
    assert (hand.out / factors.FACTORS).is_file() and not (hand.out / "r4").exists()


@pytest.mark.parametrize(
    ("options", "cell"),
    [
        ((), {"method": "pissa"}),
        (("--method", "loftq", "--quant", "nf4", "--alternations", "3"), {"method": "loftq", "quant": "nf4", "T": 3}),
        (("--alpha", "8", "--rslora"), {"method": "pissa", "alpha": 8, "rslora": True}),
    ],
)
def test_by_hand_the_bits_are_those_of_the_workflow(hand, tiny_rows, options, cell):
    turns = {"alternations": cell.pop("T")} if "T" in cell else {}
    run = Run(hand.folder / "run", hand.model, tiny_rows, cell.pop("method"), options=turns, **cell)
    run.init()
    hand.init("--rank", "4", *options)
    assert adapter(hand.out) == adapter(run.start)
    assert read_json(hand.out / "init.json")["spec"].items() <= run.init_spec.items()


def test_the_embedded_model_has_a_name(tmp_path):
    by = ByHand(tmp_path, "embedded")
    by.init("--rank", "2", "--target-module", "q_proj")
    record = read_json(by.out / "init.json")
    assert record["base"]["name"] == embedded.NAME and record["equality_error"] < 1e-6
    assert all(name.endswith("q_proj") for name in record["modules"])


def test_a_fetched_models_record_is_a_model_too(hand):
    record = hand.folder / "model.json"
    fetch.main(["--spec", json.dumps({"model": {"path": hand.model}}), "--out", str(record)])
    hand.init("--rank", "4")
    by_folder = adapter(hand.out)
    hand.model, hand.out = str(record), hand.folder / "by record"
    hand.init("--rank", "4")
    assert adapter(hand.out) == by_folder


def test_the_targets_are_every_projection_unless_they_are_named(hand):
    hand.init("--rank", "4")
    assert set(read_json(hand.out / "init.json")["spec"]["target_modules"]) == set(LLAMA)
    says(lambda: hand.init("--rank", "4"), "--out", "exists already")
    hand.out = hand.folder / "named"
    hand.init("--rank", "4", "--target-module", "up_proj", "--target-module", "self_attn.q_proj")
    assert len(read_json(hand.out / "init.json")["modules"]) == 4


@pytest.mark.parametrize("stage", ["init", "errors"])
def test_the_cost_is_told_before_the_work(hand, caplog, monkeypatch, stage):
    """The count is right, and the time is said before the first weight is decomposed."""
    caplog.set_level(logging.INFO)
    told = []
    monkeypatch.setattr(spectrum, "leading", lambda *args: told.append(caplog.text) or pytest.fail("told enough"))
    with pytest.raises(pytest.fail.Exception):
        getattr(hand, stage)("--rank", "4", "--rank", "8", "--quant", "nf4")
    matrices, parameters, number, unit, memory = re.search(ESTIMATE, told[0]).groups()
    assert int(matrices) == 14 and float(parameters) == pytest.approx(2 * (4 * 64 * 64 + 3 * 64 * 128), rel=0.01)
    assert float(number) >= 1 and unit == "s" and float(memory) < 0.1


def test_a_long_time_is_told_in_minutes_or_hours():
    assert [duration(s) for s in (0.1, 100, 121, 5400, 7200, 86400)] == [
        "1 s", "100 s", "2.0 min", "90.0 min", "2.0 h", "24.0 h",
    ]  # fmt: skip


def test_the_cost_grows_with_rank_alternations_and_starts_and_knows_the_solver(tmp_path):
    large = save_weights(tmp_path / "m", {"model.layers.0.mlp.up_proj": torch.zeros(2600, 2560, dtype=torch.bfloat16)})

    def cost(*ranks, turns=1, quant="nf4", errors=False):
        options = {"alternations": turns}
        common = {"method": "pissa", "quant": quant, "options": options, "target_modules": ["up_proj"]}
        specs = [{"rank": rank, **common} for rank in ranks]
        return (error_cost if errors else init_cost)(str(large), specs)

    assert cost(128).operations > cost(16).operations
    assert cost(16, turns=5).operations > cost(16).operations > cost(16, quant="none").operations
    assert cost(16, 32).operations < 2 * cost(32).operations  # one decomposition for both
    assert cost(16, errors=True).operations > cost(16).operations
    assert cost(16).memory > 3 * 4 * 2600 * 2560
    assert 2 * krylov.basis_size(160) > 1200  # the narrower one is too narrow for the fast solver
    fast, exact = (decomposition_operations((4096, columns), "fast", 128) / columns for columns in (4096, 1200))
    assert fast < exact


def test_a_rank_of_none_is_refused_before_anything_is_written(hand):
    says(lambda: hand.init("--rank", "65"), "rank 65", "(64, 128)", "from 1 to 64", "--rank")
    assert not hand.out.exists()


WRONG = [
    (("--method", "pisa"), ["--method", "method 'pisa'", "'pissa'", "olora"]),
    (("--quant", "nf5"), ["--quant", "quant 'nf5'", "'nf4'", *quantizers.names()]),
    (("--svd", "slow"), ["pissa", "svd 'slow'", "exact", "fast", "niter_<0 to 999>"]),
    (("--alternations", "0", "--quant", "nf4"), ["alternations", "0", "whole number"]),
    (("--alpha", "0"), ["--alpha 0", "above 0"]),
    (("--alpha", "-8"), ["--alpha -8", "above 0"]),
    (("--alpha", "nan"), ["--alpha nan", "above 0"]),
    (("--method", "full"), ["--method full", "no factors"]),
    (("--method", "loftq"), ["--method loftq --quant none", "makes no sense", "LoRA"]),
    (("--method", "olora", "--svd", "exact"), ["olora", "option 'svd'"]),
    (("--rank", "4", "--rank", "4"), ["--rank 4", "twice"]),
    (("--target-module", "q_pro"), ["'q_pro' matches no module", "q_proj"]),
]


@pytest.mark.parametrize(("options", "words"), WRONG, ids=[" ".join(options) for options, _ in WRONG])
def test_a_wrong_option_is_named_with_the_choices(hand, options, words):
    says(lambda: hand.init(*options), *words)
    assert not hand.out.exists()


@pytest.mark.parametrize("method", [name for name in methods.names() if methods.load(name).STATISTICS])
def test_a_method_whose_start_needs_data_is_refused(hand, method):
    words = f"--method {method}", "of data", "--statistics gives none"
    says(lambda: hand.init("--method", method, "--quant", "nf4"), *words)
    assert not hand.out.exists()


@pytest.mark.parametrize("name", ["nowhere", "a/b/c", "./nowhere", "/nowhere/at-all"])
def test_a_model_that_is_neither_a_folder_nor_a_hub_id_is_refused(hand, name):
    hand.model = name
    says(lambda: hand.init(), f"MODEL {name}", "no such folder", "owner/name")


def test_the_errors_of_several_ranks_are_one_record(hand, caplog):
    caplog.set_level(logging.INFO)
    record = hand.errors("--quant", "nf4", "--rank", "4", "--rank", "16", "--alternations", "2")
    assert [start["spec"]["rank"] for start in record["starts"]] == [4, 16]
    averages = [start["reduction"]["avg"] for start in record["starts"]]
    assert 0 < averages[0] < averages[1]
    assert f"rank 16: error reduction {averages[1]:.2f} %" in caplog.text
    assert all(set(start["reduction"]) == {*LLAMA, "avg"} for start in record["starts"])


def test_the_errors_by_hand_are_those_of_stored_factors(hand):
    hand.init("--quant", "nf4", "--rank", "4", "--method", "loftq", "--alternations", "2")
    stored = ByHand(hand.folder, hand.model)
    stored.out = hand.folder / "stored.json"
    from_folder = stored.errors("--factors", str(hand.out), "--quant", "nf4")
    hand.out = hand.folder / "made.json"
    (made,) = hand.errors("--quant", "nf4", "--rank", "4", "--method", "loftq", "--alternations", "2")["starts"]
    assert made["modules"] == from_folder["modules"] and made["reduction"] == from_folder["reduction"]


def test_a_plain_base_has_no_quantization_error(hand):
    says(lambda: hand.errors("--quant", "none"), "'none' has no quantization error", "--quant nf4")


def test_trained_factors_need_the_start_that_they_come_from(hand):
    says(lambda: hand.errors("--quant", "nf4", "--trained", "somewhere"), "--trained", "--factors")
    says(lambda: hand.errors("--quant", "nf4", "--evaluated-as", "int8"), "--evaluated-as", "--factors")


@pytest.mark.parametrize("command", ["decompose", "quant-error"])
def test_a_hub_id_is_a_model_too(tmp_path, command):
    """A process of its own: huggingface_hub reads its environment when it is imported."""
    folder = save_weights(tmp_path / "m", {f"model.layers.{n}.mlp.up_proj": decaying(48, 64, n) for n in range(2)})
    with running(Hub()) as hub:
        commit = hub.add("models", "lab/tiny", {path.name: path.read_bytes() for path in folder.iterdir()})
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
        clean |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": str(ROOT)}
        words = [sys.executable, "-m", "pissa_repro", command, "lab/tiny", "--revision", "v1"]
        out = tmp_path / "out"
        words += ["--rank", "4", "--quant", "nf4", "--out", str(out)]
        words += ["--factors"] if command == "decompose" else []
        done = subprocess.run(words, env=clean, cwd=tmp_path, encoding="utf-8", capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    record = read_json(out / "init.json" if out.is_dir() else out)
    assert (record["base"]["name"], record["base"]["commit"]) == ("lab/tiny", commit)
    assert re.search(ESTIMATE, done.stderr)
