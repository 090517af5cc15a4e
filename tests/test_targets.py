"""Which modules get factors, of what rank and alpha: the same as in PEFT, for every field that says so."""

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stage import LLAMA, says

from pissa_repro.model import patterns, targets
from pissa_repro.plan import lora

CONV1D = ["attn.c_attn", "mlp.c_fc"]
# What a spec says of a Llama, and of a GPT-2.
LLAMAS = [
    {"target_modules": "all-linear"},
    {"target_modules": "ALL-linear", "exclude_modules": ["q_proj", "1.mlp.up_proj"]},
    {"target_modules": r".*\.(q|v)_proj"},
    {"target_modules": r"model\.layers\.0\.mlp\..*_proj", "exclude_modules": r".*up.*"},
    {"target_modules": LLAMA, "layers_to_transform": 1},
    {"target_modules": LLAMA, "layers_to_transform": [0], "layers_pattern": "layers"},
    {"target_modules": LLAMA, "rank_pattern": {"q_proj": 2, r"1\..*": 4}},
    {
        "target_modules": LLAMA,
        "rank_pattern": {"^model.layers.0.*": 3},
        "alpha_pattern": {"v_proj": 16, "layers.1.*": 2},
    },
    {"target_modules": ["q_proj", "lm_head"], "alpha_pattern": {"^lm_head": 0.5}},
]
GPT2S = [
    {"target_modules": "all-linear", "rank_pattern": {"c_attn": 3}},
    {"target_modules": r"transformer\.h\.1\..*\.c_.*"},
    {"target_modules": CONV1D, "layers_to_transform": [1], "layers_pattern": ["layers", "h"]},
    {"target_modules": CONV1D, "layers_to_transform": [0], "alpha_pattern": {r"^transformer\.h\.0\.attn\.c_attn": 6}},
]


def ours(folder, fields):
    """{the files' name: (rank, alpha)} by our rule; patterns are pairs in a spec."""
    spec = {"target_modules": fields["target_modules"], "rank": 8, "alpha": 4.0}
    more = lora.of_start(fields, alpha_is_rank=False)
    return {
        name: (one["rank"], one["alpha"]) for name, one in targets.by_module(folder, {**spec, "lora": more}).items()
    }


def peft_of(folder, fields):
    """{PEFT's name: (rank, alpha)} of the model that PEFT itself makes."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
        made = get_peft_model(model, LoraConfig(r=8, lora_alpha=4, **fields)).base_model
    layers = {name: made.model.get_submodule(name) for name in made.targeted_module_names}
    return {name: (layer.r["default"], layer.lora_alpha["default"]) for name, layer in layers.items()}


@pytest.mark.parametrize("fields", LLAMAS, ids=str)
def test_peft_chooses_the_same_modules_ranks_and_alphas(tiny_model, fields):
    assert ours(tiny_model, fields) == peft_of(tiny_model, fields) != {}


@pytest.mark.parametrize("fields", GPT2S, ids=str)
@pytest.mark.parametrize("naming", ["saved", "hub"])
def test_peft_chooses_the_same_where_files_leave_out_the_models_name(tiny_gpt2, naming, fields):
    """PEFT's rules see the model's names (transformer.h.0), the files on the hub have h.0."""
    found = {
        f"transformer.{name.removeprefix('transformer.')}": two for name, two in ours(tiny_gpt2[naming], fields).items()
    }
    assert found == peft_of(tiny_gpt2[naming], fields) != {}


PARTS = st.sampled_from(["h", "0", "1", "q", "qq", "q_proj"])
KEYS = st.lists(
    st.sampled_from(["h", "0", "1", "q", ".*", r"\.", ".", "q?", "^h", "(q|1)", r"\d"]), min_size=1, max_size=4
)


@given(st.lists(KEYS.map("".join), max_size=4, unique=True), st.lists(PARTS, min_size=1, max_size=4).map(".".join))
def test_a_pattern_decides_what_pefts_decides(keys, module):
    """The first of them that the end of a name matches."""
    from peft.utils.other import get_pattern_key

    pattern = {key: number for number, key in enumerate(keys)}
    config = {"rank_pattern": pattern, "r": "usual"}
    assert patterns.of_module(config, "rank", module) == pattern.get(get_pattern_key(keys, module), "usual")


@given(st.dictionaries(st.lists(PARTS, min_size=1, max_size=4).map(".".join), st.integers(1, 3), min_size=1))
def test_written_patterns_give_every_module_its_own(ranks):
    """Also where one name is the end of another, and whatever their order."""
    config = {"r": 2, "lora_alpha": 8.0}
    written = config | patterns.patterns(config, ranks, dict.fromkeys(ranks, 8.0))
    assert {name: patterns.of_module(written, "rank", name) for name in ranks} == ranks
    assert "alpha_pattern" not in written and ("rank_pattern" in written) == (set(ranks.values()) != {2})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"target_modules": ["q_proj", "q_prj"]}, ["'q_prj' matches no module"]),
        ({"target_modules": ".*q_prj"}, ["no module", ".*q_prj"]),
        ({"target_modules": ".*embed_tokens"}, ["model.embed_tokens.weight", "is an embedding"]),
        ({"target_modules": ".*norm"}, ["is a vector"]),
        ({"target_modules": LLAMA, "exclude_modules": ["q_proj", "q_prj"]}, ["'q_prj' excludes none of"]),
        ({"target_modules": LLAMA, "exclude_modules": ".*prj"}, ["exclude_modules", "'.*prj' excludes none of the 14"]),
        ({"target_modules": LLAMA, "exclude_modules": ".*"}, ["no module", "is chosen"]),
        ({"target_modules": LLAMA, "layers_to_transform": [0, 2]}, ["no target module is in a layer 2"]),
        ({"target_modules": LLAMA, "layers_to_transform": 0, "layers_pattern": "h"}, ["is in a layer 0"]),
        ({"target_modules": LLAMA, "rank_pattern": {"q_prj": 2}}, ["rank_pattern", "'q_prj' decides no target module"]),
        ({"target_modules": LLAMA, "alpha_pattern": {".*": 2, "q_proj": 3}}, ["alpha_pattern: 'q_proj' decides no"]),
    ],
    ids=str,
)  # fmt: skip
def test_a_field_that_does_nothing_is_refused(tiny_model, fields, words):
    """PEFT passes over a misspelt name, and trains something else."""
    says(lambda: ours(tiny_model, fields), *words)


def test_a_pattern_that_alpha_is_rank_has_added_may_decide_nothing(tiny_model):
    """It was never written: another pattern of alpha comes before it."""
    written = {"rank_pattern": {"q_proj": 4}, "alpha_pattern": {"self_attn.*": 8}}
    added = lora.of_start(written, alpha_is_rank=True)
    patterns = {field: dict(pairs) for field, pairs in added.items()}
    assert list(patterns["alpha_pattern"]) == ["self_attn.*", "q_proj"]
    assert ours(tiny_model, {"target_modules": LLAMA, **patterns})
