"""Models that are damaged, or do not fit the spec: every case ends in one message, and no half output."""

import json
import shutil
from pathlib import Path

import pytest
from damage import add, cut, edit, move_in_index, overwrite, shards
from stage import LLAMA, init_spec, says

from pissa_repro.model import checkpoint
from pissa_repro.runtime.errors import run_stage
from pissa_repro.sources.fetched import fetch_model
from pissa_repro.stages import fetch


def test_without_a_pad_token_eos_pads_on_the_right(tiny_model):
    from pissa_repro.model.tokens import load_tokenizer

    assert "pad_token" not in json.loads((tiny_model / "tokenizer_config.json").read_text(encoding="utf-8"))
    tokenizer = load_tokenizer(tiny_model)
    batch = tokenizer(["a", "a b c"], padding=True)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    assert batch["input_ids"][0][-1] == tokenizer.eos_token_id and batch["attention_mask"][0][-1] == 0


@pytest.fixture
def broken(tiny_model, tmp_path):
    """A copy of the tiny model to damage."""
    return Path(shutil.copytree(tiny_model, tmp_path / "broken"))


def test_a_tokenizer_without_eos_is_refused(broken):
    from pissa_repro.model.tokens import load_tokenizer

    edit(broken / "tokenizer_config.json", eos_token=None)
    says(lambda: load_tokenizer(broken), str(broken), "no eos token")


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
        ["quantized already", "quantization_config", "full-precision", "after the decomposition"],
    ),
    "index wrong": (move_in_index, ["model-00002-of-00002.safetensors", "lacks lm_head.weight", "index"]),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_model_is_refused_before_anything_is_made(broken, kind, tmp_path):
    damage, words = DAMAGE[kind]
    damage(broken)
    says(lambda: fetch_model({"path": str(broken)}), str(broken), *words)
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
    says(lambda: fetch_model({"path": str(tmp_path / "none")}), "config.models", "none")


@pytest.mark.parametrize(("target", "words"), [("c_attn", ["'c_attn'", "matches no module", "q_proj"]),
                                               ("proj", ["'proj'", "matches no module"]),
                                               ("norm", ["norm", "only matrices"])])  # fmt: skip
def test_a_target_that_matches_nothing_or_no_matrix(tiny_model, target, words):
    says(lambda: list(checkpoint.targets(tiny_model, ["q_proj", target])), *words)


@pytest.mark.parametrize("method", ["lora", "pissa", "milora", "olora"])
def test_a_rank_above_the_smaller_side(tiny_model, method):
    from pissa_repro.starts.make import start_model

    says(
        lambda: start_model(str(tiny_model), [init_spec(method=method, rank=65)]),
        "config.sweep.ranks",
        "65",
        "model.layers.0.",
        "64",
    )


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_weight_that_is_no_number(broken, value):
    from safetensors.torch import load_file

    name = "model.layers.1.mlp.up_proj.weight"
    weight = load_file(broken / "model.safetensors")[name]
    weight[3, 5] = float(value)
    add(broken, **{name: weight})
    says(lambda: list(checkpoint.targets(broken, LLAMA)), name, "model.safetensors", "NaN or infinite")


def bits(dtype: str, *shape: int):
    import torch

    return torch.zeros(shape, dtype=getattr(torch, dtype))


Q = "model__layers__0__self_attn__q_proj"
QUANTIZED = {
    "GPTQ, AWQ": ({f"{Q}__qweight": ("int32", 8, 64)}, "q_proj.qweight"),
    "bitsandbytes 4-bit": ({f"{Q}__weight__absmax": ("float32", 64)}, "q_proj.weight.absmax"),
    "bitsandbytes 8-bit": ({f"{Q}__weight_format": ("uint8",)}, "q_proj.weight_format"),
    "compressed-tensors": ({f"{Q}__weight_packed": ("int32", 64, 8)}, "q_proj.weight_packed"),
    "packed bytes": ({f"{Q}__weight": ("uint8", 2048, 1)}, "q_proj.weight", "U8"),
    "int8": ({f"{Q}__weight": ("int8", 64, 64)}, "q_proj.weight", "I8"),
    "float8": ({f"{Q}__weight": ("float8_e4m3fn", 64, 64)}, "q_proj.weight", "F8_E4M3"),
}


@pytest.mark.parametrize("kind", QUANTIZED)
def test_weights_in_few_bits_are_refused_before_a_tensor_is_read(broken, kind, monkeypatch):
    tensors, *words = QUANTIZED[kind]
    add(broken, **{name: bits(*made) for name, made in tensors.items()})
    monkeypatch.setattr("safetensors.safe_open", None)
    words += ["model.safetensors", "quantized already", "full-precision model", "after the decomposition"]
    says(lambda: fetch_model({"path": str(broken)}), str(broken), *words)
    says(lambda: checkpoint.shapes(broken, ["k_proj"]), *words)


def test_what_bitsandbytes_saves_is_known(broken):
    import bitsandbytes
    import torch

    layer = bitsandbytes.nn.Linear4bit(64, 64, bias=False, quant_type="nf4").to("cpu")
    state = {f"{Q}__{key.replace('.', '__')}": tensor for key, tensor in layer.state_dict().items()}
    assert len(state) > 1 and any(tensor.dtype == torch.uint8 for tensor in state.values())
    add(broken, **state)
    says(lambda: checkpoint.files(broken), "quantized already")
    add(broken, tuple(name.replace("__", ".") for name in state), **{f"{Q}__weight": bits("float32", 64, 64)})
    assert len(checkpoint.files(broken)) == 1


def test_integers_that_are_no_weights_do_no_harm(broken):
    add(broken, model__position_ids=bits("int64", 1, 512), model__layers__0__attn__bias=bits("bool", 1, 1, 8, 8))
    assert len(checkpoint.shapes(broken, ["q_proj"])) == 2


NO_MATRIX = {
    "norm": ("model__norm", (64,), ["(64,)", "vector", "only matrices"]),
    "conv2d": ("vision__patch", (8, 3, 4, 4), ["(8, 3, 4, 4)", "convolution", "only matrices"]),
    "conv1d": ("mixer__conv1d", (8, 1, 4), ["(8, 1, 4)", "convolution", "only matrices"]),
    "empty": ("layers__0__k", (0, 64), ["(0, 64)", "empty"]),
    "embed_tokens": ("model__embed_tokens", (300, 64), ["embedding", "no input to project"]),
    "wte": ("transformer__wte", (300, 64), ["embedding", "no input to project"]),
    "wpe": ("transformer__wpe", (300, 64), ["embedding"]),
    "shared": ("shared", (300, 64), ["embedding"]),
    "t5": ("block__0__SelfAttention__relative_attention_bias", (32, 4), ["embedding"]),
}


@pytest.mark.parametrize("kind", NO_MATRIX)
def test_a_target_that_cannot_have_factors(broken, kind, monkeypatch):
    name, shape, words = NO_MATRIX[kind]
    add(broken, **{f"{name}__weight": bits("float32", *shape)})
    monkeypatch.setattr("safetensors.safe_open", None)
    module = name.replace("__", ".")
    words = [*words, "config.train.target_modules", f"{module}.weight", "model.safetensors", "out of the targets"]
    says(lambda: checkpoint.shapes(broken, ["q_proj", module.rsplit(".")[-1]]), *words)
    says(lambda: next(checkpoint.targets(broken, ["q_proj", module])), *words)


def test_a_model_without_projections(broken):
    from safetensors.torch import save_file

    save_file({"norm.weight": bits("float32", 4)}, broken / "model.safetensors", {"format": "pt"})
    says(lambda: checkpoint.projections(broken), str(broken), "numbered layer", "config.train.target_modules")


def test_half_precision_infinity_is_named(broken):
    from safetensors.torch import load_file

    name = "model.layers.0.mlp.down_proj.weight"
    weight = load_file(broken / "model.safetensors")[name].half()
    weight[2, 3] = 7e4  # above float16's largest
    add(broken, **{name: weight})
    says(lambda: list(checkpoint.targets(broken, ["down_proj"])), name, "model.safetensors", "NaN or infinite")


def test_architectures_that_the_trainers_cannot_train(broken):
    from pissa_repro.model.load import load_base

    words = ["cannot be trained", "causal language models", "Llama", "GPT-2", "Initialisation and quantization error"]
    for kind in ("whisper", "vit"):  # one hears, one sees
        edit(broken / "config.json", model_type=kind, is_encoder_decoder=kind == "whisper")
        says(lambda: load_base(broken), str(broken), *words)


def test_a_weight_that_transformers_would_make_up_at_random(broken):
    from pissa_repro.model.load import load_base

    add(broken, ("lm_head.weight",))
    says(lambda: load_base(broken), str(broken), "LlamaForCausalLM", "lm_head.weight", "do not hold")


def test_code_in_the_folder_is_not_run(broken, capsys):
    from pissa_repro.model.load import load_base

    (broken / "configuration_own.py").write_text("raise SystemExit('this ran')", encoding="utf-8")
    edit(broken / "config.json", model_type="own", auto_map={"AutoConfig": "configuration_own.Own"})
    says(lambda: load_base(broken), str(broken), "cannot load this model", "custom code")
    assert "y/N" not in capsys.readouterr().out
