"""Model folders with drawn faults: each works rightly or ends in one message, before anything is trained."""

import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest
import torch
from damage import shards
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_faults import FAULTS, damaged_bytes
from safetensors.torch import load_file

from pissa_repro.model import checkpoint
from pissa_repro.model.base import module_name, stores_transposed
from pissa_repro.model.load import load_base, window
from pissa_repro.model.tokens import load_tokenizer
from pissa_repro.runtime.errors import UserError
from pissa_repro.sources.fetched import fetch_model


@pytest.fixture(scope="module")
def folders(tiny_model, tiny_gpt2, tmp_path_factory):
    """A Llama in one file and in two shards, and a GPT-2 as on the hub."""
    split = Path(shutil.copytree(tiny_model, tmp_path_factory.mktemp("fuzz") / "split"))
    shards(split)
    return [tiny_model, split, tiny_gpt2["hub"]]


def refuse(*_):
    raise AssertionError("a question was asked")


def read(folder: Path) -> tuple:
    """What a run reads of a model before it trains: for init, for the trainer, and the tokenizer."""
    fetch_model({"path": str(folder)})
    made = dict(checkpoint.targets(folder, checkpoint.projections(folder)))
    return made, load_base(folder, device="cpu"), load_tokenizer(folder)


def check(folder: Path, made: dict, model, tokenizer) -> None:
    """Every parameter is finite and the one stored value under its name; those that init reads are its weights."""
    parameters, prefix, stored = dict(model.named_parameters()), f"{model.base_model_prefix}.", {}
    for path in checkpoint.files(folder):
        for name, tensor in load_file(path).items():
            places = {name, prefix + name, name.removeprefix(prefix)} & parameters.keys()
            assert not places & stored.keys()
            stored |= dict.fromkeys(places, tensor.float())
    assert stored.keys() == parameters.keys()
    for name, parameter in parameters.items():
        assert parameter.isfinite().all() and torch.equal(parameter, stored[name])
    for name, weight in made.items():
        layer = model.get_submodule(module_name(model, name))
        assert torch.equal(layer.weight.t() if stores_transposed(layer) else layer.weight, weight)
    assert model.config._attn_implementation == "sdpa" and window(model.config, 9) > 0
    assert tokenizer("a b")["input_ids"] is not None


def test_damaged_model_folders_work_rightly_or_end_in_one_message(folders, monkeypatch):
    """Case 17: 300 folders with one fault or two; and of case 2: both readers see the same weights."""
    outcomes: Counter[str] = Counter()
    monkeypatch.setattr("builtins.input", refuse)

    @settings(max_examples=300, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def damaged(data):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(shutil.copytree(data.draw(st.sampled_from(folders)), Path(place) / "model"))
            data.draw(st.sampled_from(FAULTS))(data, folder)
            if data.draw(st.integers(0, 3)) == 0:
                damaged_bytes(data, folder)
            try:
                found = read(folder)
            except UserError as error:
                assert "\n" not in str(error) and str(folder) in str(error)
                outcomes["refused"] += 1
            else:
                check(folder, *found)
                outcomes["works"] += 1

    damaged()
    assert outcomes["refused"] > 100 and outcomes["works"] > 30
