"""Case 16: `methods.<m>.lora` takes fields that act in training and in what is scored, and says why no others."""

import copy
from dataclasses import fields

import pytest
from stage import says
from swept import GOOD, changed

from pissa_repro.plan import lora
from pissa_repro.plan.checked import checked, warnings

PLACE = "config.methods.my-pissa.lora"
TAKEN = {  # values of every allowed field that the dry run takes, and values that it refuses
    "target_modules": ((["q_proj"], "all-linear", r".*\.q_proj"), (None, [], "", ["q_proj", "q_proj"], [1], "(", 3)),
    "exclude_modules": ((["q_proj"], r".*\.0\..*"), ([], "", "(", [""], 1)),
    "layers_to_transform": ((0, [0, 3]), (-1, [], [1, 1], [-1], "1", 1.5, True)),
    "layers_pattern": (("layers", ["h", "layers"]), ("(", [], 1, ["("])),
    "rank_pattern": (({"q_proj": 2, "^model.*": 3},), ({"(": 2}, {"q": 0}, {"q": 1.5}, {"q": True}, {"": 1}, ["q"])),
    "alpha_pattern": (({"q_proj": 0.5},), ({"(": 2}, {"q": 0}, {"q": "rank"}, {"q": True}, ["q"])),
    "lora_alpha": ((8, 0.5, "rank"), (None, 0, -1, True, "8", "max")),
    "use_rslora": ((True, False), (None, 1, "yes")),
    "lora_dropout": ((0, 0.5), (None, 1, -0.1, True, "0")),
    "use_dora": ((True, False), (1, "yes")),
    "bias": (("none", "all", "lora_only"), (None, True, "some", ["all"])),
    "modules_to_save": ((["lm_head", "norm"],), ([], "lm_head", [""], [1], ["a", "a"])),
}
NEEDED = {"layers_pattern": {"layers_to_transform": [0]}}  # what a field is not taken without


def given(**values):
    return changed("methods.my-pissa.lora", values)


def specs_of(**values):
    """Start and training of the one cell, whose method has these fields."""
    sweep, _ = checked(given(**values))
    (cell,) = sweep.cells.values()
    return sweep.init_spec(cell), sweep.train_spec(cell)


def test_every_field_of_the_installed_peft_is_allowed_or_refused():
    """Case 16: in one of the two lists; a newer PEFT with a new field asks for a decision here."""
    from peft import LoraConfig

    usual = LoraConfig().to_dict()
    same = (name for name, field in lora.ALLOWED.items() if not field.replaces)
    assert all(usual[name] == lora.ALLOWED[name].nothing for name in same)
    assert {field.name for field in fields(LoraConfig)} == lora.ALLOWED.keys() | lora.REFUSED.keys()
    assert not lora.ALLOWED.keys() & lora.REFUSED.keys()


@pytest.mark.parametrize("field", lora.ALLOWED)
def test_a_value_that_a_field_cannot_have_is_refused(field):
    """Case 16: with what it may be. A good value makes another spec, but for one that says what holds anyway."""
    good, bad = TAKEN[field]
    for value in good:
        same = specs_of() == specs_of(**{field: value}, **NEEDED.get(field, {}))
        assert same == (value in (False, 0, "rank", "none") and field != "layers_to_transform"), value
    for value in bad:
        wrong = {field: value, **NEEDED.get(field, {})}
        says(lambda wrong=wrong: checked(given(**wrong)), PLACE, f"'{field}' is", lora.ALLOWED[field].wanted)


@pytest.mark.parametrize("field", lora.REFUSED)
def test_a_refused_field_says_why(field):
    """Case 16: before any job, with what decides it and what may be set."""
    says(lambda: checked(given(**{field: None})), PLACE, f"'{field}'", lora.REFUSED[field], *lora.ALLOWED)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"use_dorra": True}, ["'use_dorra'", "Did you mean 'use_dora'?"]),
        ({"lora_drop": 0.1}, ["'lora_drop'", "'lora_dropout'"]),
        ({"loftq_conf": {}}, ["'loftq_conf'", "For 'loftq_config': 'init: loftq' is the method"]),
        ({"zzz": 1}, ["unknown LoraConfig field 'zzz'", "Choices: alpha_pattern, bias, exclude_modules"]),
        ({"layers_pattern": "h"}, ["'layers_pattern' needs 'layers_to_transform'"]),
        ({"layers_to_transform": 0, "target_modules": "all-linear"}, ["'layers_to_transform' needs a list"]),
    ],
    ids=str,
)
def test_a_misspelt_field_or_half_a_pair_is_refused(value, words):
    """Case 16: with the nearest field of either list."""
    says(lambda: checked(given(**value)), PLACE, *words)


def test_a_field_at_its_default_is_no_field():
    """Case 16: `use_dora: false` is the same method, cell and spec as no field."""
    nothing = {name: field.nothing for name, field in lora.ALLOWED.items() if not field.replaces}
    assert specs_of(**nothing) == specs_of() and "lora" not in specs_of()[0] and specs_of()[1]["lora"] == {}
    nulls = dict.fromkeys(name for name, value in nothing.items() if value in (None, {}))
    assert specs_of(**nulls) == specs_of() and lora.PATTERNS[0] in nulls, "null is no list and no mapping"


def test_a_field_holds_in_place_of_the_training_settings():
    """Case 16: in the start and the training of this method, and of no other."""
    start, train = specs_of(lora_alpha=6, use_rslora=True, lora_dropout=0.25, target_modules="all-linear")
    assert (start["alpha"], start["rslora"], start["target_modules"]) == (6.0, True, "all-linear")
    assert train["settings"]["dropout"] == 0.25 and train["lora"] == {}
    both = copy.deepcopy(given(lora_alpha=6))
    both["sweep"]["cells"].append({"method": "pissa", "quant": "none"})
    sweep, _ = checked(both)
    assert [sweep.init_spec(cell)["alpha"] for cell in sweep.cells.values()] == [6.0, 4.0]


def test_patterns_keep_their_order_in_the_spec():
    """The first match holds, and a spec sorts its keys. Where alpha is the rank, it is that of each module."""
    pattern = {"v_proj": 3, "q_proj": 2}
    start, _ = specs_of(rank_pattern=pattern, alpha_pattern={"q_proj": 8})
    assert start["lora"] == {
        "rank_pattern": [["v_proj", 3], ["q_proj", 2]],
        "alpha_pattern": [["q_proj", 8], ["v_proj", 3]],
    }
    assert specs_of(rank_pattern=pattern, lora_alpha=16)[0]["lora"].keys() == {"rank_pattern"}
    assert specs_of(rank_pattern=dict(reversed(pattern.items())))[0] != specs_of(rank_pattern=pattern)[0]


@pytest.mark.parametrize(("where", "refused"), [({"method": "my-pissa"}, True), ({"model": "tiny"}, True),
                                                ({"method": "lora"}, False), ({"quant": "int8"}, False)])  # fmt: skip
def test_a_field_and_an_override_cannot_both_decide(where, refused):
    """Neither is told to hold over the other."""
    both = given(lora_alpha=6)
    both["overrides"] = [{"where": where, "set": {"alpha": 3}, "why": "a test of who decides"}]
    if refused:
        says(lambda: checked(both), "config.overrides[0].set.alpha", "config.methods.my-pissa.lora decides it")
    else:
        checked(both)


@pytest.mark.parametrize("field", [{"bias": "all"}, {"modules_to_save": ["norm"]}])
def test_what_trains_whole_needs_a_base_in_float32(field):
    """Its layers would meet two dtypes in the first step."""
    half = given(**field)
    half["train"]["dtype"] = "bfloat16"
    says(lambda: checked(half), "config.methods.my-pissa.lora", next(iter(field)), "bfloat16", "dtype float32")
    half["overrides"] = [{"where": {"method": "my-pissa"}, "set": {"dtype": "float32"}, "why": "what trains whole"}]
    assert specs_of(**field)[1]["lora"] == field and checked(half)


def test_dropout_on_parts_of_the_weights_is_warned_of():
    """With PiSSA and its like the first step sees a damaged model; LoRA's update alone is thinned."""
    sweep, _ = checked(given(lora_dropout=0.1))
    (text,) = warnings(sweep)
    assert "my-pissa: dropout 0.1" in text and "the r largest singular triples of W" in text
    for other in ({"lora_dropout": 0}, {}):
        assert warnings(checked(given(**other))[0]) == []
    assert warnings(checked(changed("methods.my-pissa", {"init": "lora", "lora": {"lora_dropout": 0.1}}))[0]) == []


def test_a_method_that_no_cell_uses_is_checked_too():
    """Case 16: its fields and its options."""
    for more, words in (({"lora": {"lora_bias": True}}, "'lora_bias'"), ({"options": {"svd": "slow"}}, "svd 'slow'")):
        methods = GOOD["methods"] | {"spare": {"init": "pissa", **more}}
        says(lambda methods=methods: checked(changed("methods", methods)), "config.methods.spare", words)


def test_a_method_without_factors_takes_no_field():
    """Case 16: there is no adapter that a field could change."""
    methods = copy.deepcopy(GOOD["methods"]) | {"whole": {"init": "full", "lora": {"use_dora": True}}}
    says(lambda: checked(changed("methods", methods)), "config.methods.whole.lora", "no adapter")
