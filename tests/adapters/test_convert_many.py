"""Converted adapters share one base: each is what it is alone, whatever is loaded and removed around it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peer import START, convert, logits, plain, train
from peft import PeftModel

RULES = {
    "pissa": START["pissa"],
    "olora": START["olora"] | {"r": 3, "target_modules": ["k_proj", "down_proj"]},
    "rslora": START["pissa"] | {"use_rslora": True, "rank_pattern": {"q_proj": 2}},
}
STEPS = st.lists(st.sampled_from([*RULES, "off"]), min_size=1, max_size=6)


@pytest.fixture(scope="module")
def adapters(tiny_model, tmp_path_factory):
    """Folders of three converted adapters, with the logits of their trainings, and those of the untouched model."""
    folder = tmp_path_factory.mktemp("many")
    trained = {name: train(tiny_model, folder / name, **fields) for name, fields in RULES.items()}
    for name, one in trained.items():
        convert(one, folder / name / "out")
    wanted = {name: one.logits for name, one in trained.items()} | {"off": logits(plain(tiny_model))}
    return {name: folder / name / "out" for name in RULES}, wanted


@given(order=st.permutations(list(RULES)), steps=STEPS, removed=st.permutations(list(RULES)))
@settings(max_examples=12)
@pytest.mark.filterwarnings("ignore")
def test_adapters_are_independent_and_removed_in_any_order(adapters, tiny_model, order, steps, removed):
    """Pitfalls 3, 4."""
    folders, wanted = adapters
    model = PeftModel.from_pretrained(plain(tiny_model), folders[order[0]], adapter_name=order[0])
    for name in order[1:]:
        model.load_adapter(folders[name], adapter_name=name)
    for name in steps:
        assert (given_by(model, name) - wanted[name]).abs().max() < 1e-5, name
    for n, name in enumerate(removed[:-1]):
        model.delete_adapter(name)
        for left in removed[n + 1 :]:
            assert (given_by(model, left) - wanted[left]).abs().max() < 1e-5, (left, "without", name)
    assert torch.equal(logits(model.unload()), wanted["off"])


def given_by(model, name):
    """Logits with one adapter active, or with none."""
    if name == "off":
        with model.disable_adapter():
            return logits(model)
    model.set_adapter(name)
    return logits(model)
