"""Case 16: `methods.<m>.lora` takes fields that act in training and in what is scored, and says why no others."""

import copy
from dataclasses import fields

import pytest
import torch
from helpers import Run
from stage import says
from swept import GOOD, changed

from pissa_repro.plan import lora
from pissa_repro.plan.checked import checked

PLACE = "config.methods.my-pissa.lora"
TRIED = {"use_dora": True}  # a value that acts, of every allowed field


def given(**values):
    return changed("methods.my-pissa.lora", values)


def test_every_field_of_the_installed_peft_is_allowed_or_refused():
    """Case 16: in one of the two lists; a newer PEFT with a new field asks for a decision here."""
    from peft import LoraConfig

    there = {field.name: field.default for field in fields(LoraConfig)}
    assert all(there[name] == kind() for name, (kind, _) in lora.ALLOWED.items())
    assert there.keys() == lora.ALLOWED.keys() | lora.REFUSED.keys()
    assert not lora.ALLOWED.keys() & lora.REFUSED.keys()


@pytest.mark.parametrize("field", lora.REFUSED)
def test_a_refused_field_says_why(field):
    """Case 16: before any job, with what decides it and what may be set."""
    says(lambda: checked(given(**{field: None})), PLACE, f"'{field}'", lora.REFUSED[field], *lora.ALLOWED)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"use_dorra": True}, ["'use_dorra'", "Did you mean 'use_dora'?"]),
        ({"lora_drop": 0.1}, ["'lora_drop'", "'lora_dropout'", "config.train.dropout"]),
        ({"zzz": 1}, ["unknown LoraConfig field 'zzz'", "Choices: use_dora"]),
        ({"use_dora": 1}, ["'use_dora' is 1", "bool"]),
        ({"use_dora": "yes"}, ["'use_dora' is 'yes'", "bool"]),
        ({"use_dora": None}, ["'use_dora' is None", "bool"]),
    ],
    ids=str,
)
def test_a_misspelt_field_or_another_type_is_refused(value, words):
    """Case 16: with the nearest field of either list."""
    says(lambda: checked(given(**value)), PLACE, *words)


def test_a_field_at_its_default_is_no_field():
    """Case 16: `use_dora: false` is the same method, cell and spec as no field."""
    (sweep, _), (plain, _) = checked(given(use_dora=False)), checked(given())
    (cell,) = sweep.cells.values()
    assert sweep.train_spec(cell) == plain.train_spec(cell)


def test_a_method_that_no_cell_uses_is_checked_too():
    """Case 16: its fields and its options."""
    for more, words in (({"lora": {"bias": "all"}}, "'bias'"), ({"options": {"svd": "slow"}}, "svd 'slow'")):
        methods = GOOD["methods"] | {"spare": {"init": "pissa", **more}}
        says(lambda methods=methods: checked(changed("methods", methods)), "config.methods.spare", words)


def test_a_method_without_factors_takes_no_field():
    """Case 16: there is no adapter that a field could change."""
    methods = copy.deepcopy(GOOD["methods"]) | {"whole": {"init": "full", "lora": {"use_dora": True}}}
    says(lambda: checked(changed("methods", methods)), "config.methods.whole.lora", "no adapter")


@pytest.mark.parametrize("quant", ["none", "nf4"])
def test_every_allowed_field_acts_and_is_merged(tmp_path, tiny_model, tiny_rows, quant):
    """Case 16: the trained model differs from the one without it, and the merged model is the trained one."""
    assert TRIED.keys() == lora.ALLOWED.keys()
    logits = {}
    for name, value in {"": None, **TRIED}.items():
        fields = {name: value} if name else {}
        run = Run(tmp_path / f"with-{name}", tiny_model, tiny_rows, "pissa", quant, lora=fields, steps=3)
        run.init()
        run.train()
        merged = run.merged([example["input_ids"] for example in run.prepare().examples[:2]])
        assert merged.checks["merge_error"] < 1e-5 < merged.checks["training_effect"]
        logits[name] = merged.logits
    for name in TRIED:
        assert not torch.allclose(logits[name], logits[""], rtol=1e-4), name
