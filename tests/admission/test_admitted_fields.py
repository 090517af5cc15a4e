"""What a method's fields of LoraConfig ask of a model is known before anything is decomposed."""

import pytest
from admitting import admitted
from stage import LLAMA, says

CONV1D = ["attn.c_attn", "mlp.c_fc"]


def asked(folder, tmp_path, fields, **changes):
    return admitted(folder, tmp_path, lora=fields, **changes)


def test_a_model_is_admitted_with_every_kind_of_field(tiny_model, tiny_gpt2, tmp_path):
    """The modules that get factors are counted; a rank of its own may be above what another module can have."""
    fields = {"target_modules": "all-linear", "exclude_modules": ["q_proj"], "modules_to_save": ["lm_head", "norm"]}
    assert asked(tiny_model, tmp_path, fields)["modules"] == dict.fromkeys((n for n in LLAMA if n != "q_proj"), 2)
    for folder in tiny_gpt2.values():
        fields = {"target_modules": r"transformer\.h\.0\.attn\.c_.*", "bias": "lora_only"}
        assert asked(folder, tmp_path, fields)["modules"] == {"c_attn": 1, "c_proj": 1}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"rank_pattern": {"q_proj": 65}}, ["rank 65", "q_proj (64, 64)", "rank_pattern"]),
        ({"target_modules": ["q_proj", "lm_head"]}, ["lm_head is the output layer"]),
        ({"target_modules": ".*prj"}, ["no module", ".*prj"]),
        ({"modules_to_save": ["lm_heed"]}, ["modules_to_save: 'lm_heed'", "with parameters ends so"]),
        ({"modules_to_save": ["act_fn"]}, ["modules_to_save: 'act_fn'", "with parameters ends so"]),
        ({"modules_to_save": ["mlp"]}, ["modules_to_save: 'mlp'", "_proj gets factors"]),
        ({"modules_to_save": ["v_proj"]}, ["modules_to_save: 'v_proj'", "self_attn.v_proj gets factors"]),
        ({"bias": "all"}, ["bias", "no bias that 'all' would train"]),
    ],
    ids=str,
)
def test_what_the_model_does_not_have_is_refused(tiny_model, tmp_path, fields, words):
    says(lambda: asked(tiny_model, tmp_path, fields), *words)


def test_a_weight_that_is_used_twice_does_not_train_alone(tiny_gpt2, tmp_path):
    """GPT-2's embedding is its head."""
    for name in ("wte", "lm_head"):
        says(
            lambda name=name: asked(tiny_gpt2["hub"], tmp_path, {"modules_to_save": [name]}, target_modules=CONV1D),
            f"modules_to_save: '{name}'", "one of the two would train",
        )  # fmt: skip
