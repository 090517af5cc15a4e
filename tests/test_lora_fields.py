"""Every field of LoraConfig that a method may set, from the start to the merged model, beside PEFT's model of it."""

import pytest
import torch
from helpers import Run
from safetensors.torch import load_file
from stage import LLAMA

from pissa_repro.model import factors
from pissa_repro.model.base import set_base
from pissa_repro.model.checks import logits, relative_difference
from pissa_repro.model.load import load_base
from pissa_repro.plan import lora
from pissa_repro.runtime.record import read_json
from pissa_repro.training import trainer

RATE, PROMPTS = 5e-3, [[3, 40, 17, 9], [250, 8]]
TRIED = {  # a value that acts, of every allowed field, with what it needs
    "target_modules": {"target_modules": "all-linear", "exclude_modules": ["q_proj"]},
    "exclude_modules": {"exclude_modules": r".*\.0\..*"},
    "layers_to_transform": {"layers_to_transform": [1]},
    "layers_pattern": {"layers_to_transform": 0, "layers_pattern": "layers"},
    "rank_pattern": {"rank_pattern": {"q_proj": 2, r"layers\.1\..*": 6}},
    "lora_alpha": {"lora_alpha": 16},
    "alpha_pattern": {"alpha_pattern": {"v_proj": 8, r"layers\.0\..*": 1}},
    "use_rslora": {"use_rslora": True},
    "lora_dropout": {"lora_dropout": 0.3},
    "use_dora": {"use_dora": True, "rank_pattern": {"q_proj": 2}, "lora_alpha": 8, "modules_to_save": ["norm"]},
    "modules_to_save": {"modules_to_save": ["lm_head", "model.norm"]},
}
TOGETHER = {
    "target_modules": LLAMA, "exclude_modules": ["k_proj"], "layers_to_transform": [0, 1], "lora_dropout": 0.1,
    "rank_pattern": {"^model.layers.0.*": 2, "up_proj": 3}, "lora_alpha": 6, "alpha_pattern": {"v_proj": 2},
    "use_rslora": True, "modules_to_save": ["model.norm"],
}  # fmt: skip


class Killed(Exception):
    pass


def cell(folder, model, rows, quant, fields):
    """A cell with its start made."""
    run = Run(folder, model, rows, "pissa", quant, lora=fields, steps=3, learning_rate=RATE)
    run.init()
    return run


def train_in_two(run, monkeypatch):
    """Train, with a failure in the third step; and again, from the checkpoint of the second."""
    step = trainer.Watch.on_step_end

    def fail(self, args, state, *rest, **more):
        step(self, args, state, *rest, **more)
        if state.global_step == 3:
            raise Killed

    with monkeypatch.context() as failing:
        failing.setattr(trainer.Watch, "on_step_end", fail)
        with pytest.raises(Killed):
            run.train("--checkpoint-steps", "1")
    assert run.train("--checkpoint-steps", "1")["resumed_from"] == 2


def by_peft(run, fields, prefix):
    """The model that PEFT makes of these fields on the cell's base, with the trained tensors in it."""
    from peft import LoraConfig, get_peft_model
    from peft.utils import set_peft_model_state_dict

    base, start = load_base(read_json(run.model)["path"]), factors.load(run.start, read_json(run.model))
    set_base(base, start, run.spec["quant"], "float32", pack=False)
    usual = {"target_modules": LLAMA, "lora_alpha": 4, "r": 4}
    made = get_peft_model(base, LoraConfig(**usual | fields, init_lora_weights=False))
    stored = load_file(run.factors / factors.FACTORS)
    left = set_peft_model_state_dict(made, stored)
    assert not left.unexpected_keys and not [key for key in left.missing_keys if "lora_" in key]
    layers = {name: made.base_model.model.get_submodule(name) for name in made.base_model.targeted_module_names}
    found = {name: (layer.r["default"], layer.scaling["default"]) for name, layer in layers.items()}
    assert found == {prefix + name: (len(start.A[name]), start.scaling(name)) for name in start.A}
    return made.eval()


def compare(run, fields, prefix=""):
    """Merged, it is PEFT's; returns the merged logits. prefix: of the model's names, which the files leave out."""
    merged = run.merged(PROMPTS)
    assert merged.checks["merge_error"] < 1e-5 < merged.checks["training_effect"]
    # where alpha is not given it is each module's rank, which PEFT has to be told
    alphas = fields.get("rank_pattern", {}) if "lora_alpha" not in fields else {}
    told = fields | ({"alpha_pattern": {**alphas, **fields.get("alpha_pattern", {})}} if alphas else {})
    assert relative_difference(logits(by_peft(run, told, prefix), PROMPTS), merged.logits) < 1e-5
    exported(run, fields, merged.logits)
    return merged.logits


def exported(run, fields, wanted):
    """What the cell leaves for others: a plain LoRA on the untouched base, but for DoRA and on a quantized base."""
    from peft import PeftModel

    if run.spec["quant"] != "none" or fields.get("use_dora"):
        assert not (run.trained / "adapter_config.json").exists()
        return
    wrapped = PeftModel.from_pretrained(load_base(read_json(run.model)["path"]), run.trained).eval()
    assert relative_difference(logits(wrapped, PROMPTS), wanted) < 1e-5


@pytest.fixture(scope="module")
def plain(tmp_path_factory, tiny_model, tiny_rows):
    """The logits of the trained cell without any field."""
    run = cell(tmp_path_factory.mktemp("plain"), tiny_model, tiny_rows, "none", {})
    run.train()
    return compare(run, {})


@pytest.mark.parametrize("field", TRIED)
def test_an_allowed_field_acts_and_is_what_peft_makes_of_it(tmp_path, tiny_model, tiny_rows, monkeypatch, plain, field):
    """Case 16: through start, training, a resume and the merge; the model is another one than without the field."""
    assert TRIED.keys() | {"bias"} == lora.ALLOWED.keys()  # Llama has none
    run = cell(tmp_path, tiny_model, tiny_rows, "none", TRIED[field])
    train_in_two(run, monkeypatch)
    assert not torch.allclose(compare(run, TRIED[field]), plain, rtol=1e-4)


def test_fields_together_on_a_quantized_base(tmp_path, tiny_model, tiny_rows, monkeypatch):
    """A resumed training ends with the bits of one without a break, and the errors are those of each module's s B A."""
    whole, broken = (cell(tmp_path / name, tiny_model, tiny_rows, "nf4", TOGETHER) for name in ("whole", "broken"))
    whole.train("--checkpoint-steps", "1")
    train_in_two(broken, monkeypatch)
    assert broken.steps.read_text(encoding="utf-8") == whole.steps.read_text(encoding="utf-8")
    compare(broken, TOGETHER)


@pytest.mark.parametrize(("bias", "count"), [("all", 13), ("lora_only", 4)])
def test_fields_together_on_files_with_shorter_names(tmp_path, tiny_gpt2, tiny_rows, monkeypatch, bias, count):
    """Also exported: the start has the files' names in its patterns, what was trained the model's."""
    fields = {
        "target_modules": r"transformer\.h\.\d\.(attn\.c_attn|mlp\.c_proj)", "use_rslora": True, "lora_alpha": 6,
        "rank_pattern": {"^transformer.h.0.*": 2}, "alpha_pattern": {"c_proj": 3},
        "bias": bias,
    }  # fmt: skip
    run = cell(tmp_path, tiny_gpt2["hub"], tiny_rows, "none", fields)
    train_in_two(run, monkeypatch)
    compare(run, fields, "transformer.")
    stored = load_file(run.factors / factors.FACTORS)
    assert sum(key.endswith("bias") for key in stored) == count
    untouched = load_base(tiny_gpt2["hub"]).get_parameter("transformer.h.0.attn.c_attn.bias")
    assert not torch.equal(stored["base_model.model.transformer.h.0.attn.c_attn.base_layer.bias"], untouched)
    assert r"(attn\.c_attn\|mlp\.c_proj) |" in (run.trained / "README.md").read_text(encoding="utf-8")
    scaling = read_json(run.factors / factors.BASE)["scaling"]
    assert scaling == {name: made for name, made in scaling.items() if name.startswith("transformer.h.")}
    assert {round(s, 9) for s in scaling.values()} == {round(a / r**0.5, 9) for a in (3, 6) for r in (2, 4)}
