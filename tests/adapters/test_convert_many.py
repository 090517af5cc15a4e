"""Converted adapters share one base: each is what it is alone, whatever is loaded and removed around it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peer import START, convert, logits, plain, train
from peft import PeftModel
from safetensors.torch import load_file

from pissa_repro.adapters.folder import read

RULES = {
    "pissa": START["pissa"],
    "olora": START["olora"] | {"r": 3, "target_modules": ["k_proj", "down_proj"]},
    "rslora": START["pissa"] | {"use_rslora": True, "rank_pattern": {"q_proj": 2}},
}
STEPS = st.lists(st.sampled_from([*RULES, "off"]), min_size=1, max_size=6)
SOME = st.lists(st.sampled_from(list(RULES)), min_size=1, unique=True)


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
    model = together(tiny_model, folders, order)
    for name in steps:
        assert (given_by(model, name) - wanted[name]).abs().max() < 1e-5, name
    for n, name in enumerate(removed[:-1]):
        model.delete_adapter(name)
        for left in removed[n + 1 :]:
            assert (given_by(model, left) - wanted[left]).abs().max() < 1e-5, (left, "without", name)
    assert torch.equal(logits(model.unload()), wanted["off"])


@given(order=st.permutations(list(RULES)), merged=SOME, again=st.sampled_from(list(RULES)), safe=st.booleans())
@settings(max_examples=8)
@pytest.mark.filterwarnings("ignore")
def test_some_are_merged_in_any_order(adapters, tiny_model, order, merged, again, safe):
    """Their updates add up, also where one was removed and loaded again. `disable_adapter_layers` changes nothing."""
    folders, wanted = adapters
    model = together(tiny_model, folders, order)
    model.delete_adapter(again)
    model.load_adapter(folders[again], adapter_name=again)
    model.base_model.disable_adapter_layers()
    assert torch.equal(logits(model), wanted["off"])
    model.base_model.enable_adapter_layers()
    alone = model.merge_and_unload(safe_merge=safe, adapter_names=merged)
    assert (logits(alone) - summed(tiny_model, [folders[name] for name in merged])).abs().max() < 1e-5


def together(base, folders, order):
    """The untouched model with these adapters, loaded in this order."""
    model = PeftModel.from_pretrained(plain(base), folders[order[0]], adapter_name=order[0])
    for name in order[1:]:
        model.load_adapter(folders[name], adapter_name=name)
    return model


def summed(base, folders):
    """Logits of the untouched model with the updates s B A of some folders in its matrices."""
    model = plain(base)
    for one in folders:
        adapter = read(one, "adapter")
        tensors = load_file(adapter.weights)
        for name, module in adapter.modules.items():
            model.get_submodule(name).weight.data += module.scaling * tensors[module.b] @ tensors[module.a]
    return logits(model)


def given_by(model, name):
    """Logits with one adapter active, or with none."""
    if name == "off":
        with model.disable_adapter():
            return logits(model)
    model.set_adapter(name)
    return logits(model)
