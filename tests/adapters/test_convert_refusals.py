"""What pissa convert refuses, in one message and without a folder left behind."""

import json
import resource
import shutil

import pytest
import torch
from commands import pissa
from peer import START, changed, train
from stage import says

from pissa_repro.model import streamed
from pissa_repro.runtime.errors import run_stage

A_KEY = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
SHORT = "model.layers.0.self_attn.q_proj"


def refused(adapter, init, out, *words, options=()):
    says(lambda: pissa("convert", adapter, "--init", init, "--out", out, *options), *words)
    assert not out.exists() and not out.with_name(f".{out.name}").exists()


def without(key):
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if name != key}


def also(key, value=None):
    return lambda tensors: tensors | {key: torch.zeros(3, 3) if value is None else value}


def renamed(tensors):
    return {name.replace("layers.1.", "layers.7."): tensor for name, tensor in tensors.items()}


def halved(tensors):
    return {k: t[:2] if ".lora_A." in k else t[:, :2] for k, t in tensors.items()}


def narrow(tensors):
    return {k: t[:, :-1] if k == A_KEY else t for k, t in tensors.items()}


WRONG = {  # of the adapter: what is done to its tensors, to its config, and what is said
    "rank": (halved, {"r": 2}, ["proj: rank 2", "4 expected", "not of one training"]),
    "alpha": (dict, {"lora_alpha": 4}, ["proj: alpha 4", "8 expected"]),
    "scaling": (dict, {"use_rslora": True}, ["proj: scaling 4.0", "2.0 expected"]),
    "a pattern": (dict, {"alpha_pattern": {"v_proj": 3}}, ["v_proj: alpha 3", "8 expected"]),
    "a pattern that is none": (dict, {"rank_pattern": {"(q": 4}}, ["'(q'", "no regular expression"]),
    "no rank": (dict, {"r": None}, ["r is None", "above 0"]),
    "config and tensors": (dict, {"r": 8}, ["rank 8", "(4, 64)", "rank_pattern"]),
    "dtype": (lambda t: {k: v.bfloat16() for k, v in t.items()}, {}, ["dtype of A BF16", "F32 expected", "Save both"]),
    "a whole number": (lambda t: {k: v.to(torch.int8) for k, v in t.items()}, {}, ["in I8", "F32, F16, BF16"]),
    "shape": (narrow, {}, [SHORT, "shape of A (63,)", "(64,) expected"]),
    "a missing module": (
        lambda t: {k: v for k, v in t.items() if SHORT not in k}, {}, ["has 1 modules that", "lacks", SHORT]),
    "renamed modules": (renamed, {}, ["has 3 modules that", "layers.7."]),
    "a missing key": (without(A_KEY), {}, [SHORT, "has no lora_A", "not whole"]),
    "an unexpected key": (also("base_model.model.extra.weight"), {}, ["holds base_model.model.extra.weight"]),
    "a bias that is not asked for": (also("base_model.model.x.bias"), {}, ["holds base_model.model.x.bias"]),
    "a module without tensors": (dict, {"modules_to_save": ["lm_head"]}, ["modules_to_save lm_head", "no tensor"]),
    "no factors": (lambda t: {"x": torch.zeros(2)}, {}, ["no LoRA factors"]),
    "NaN": (lambda t: {k: v * float("nan") for k, v in t.items()}, {}, ["NaN or infinities"]),
    "another training": (
        lambda t: {k: torch.randn(v.shape, generator=torch.Generator().manual_seed(5)) for k, v in t.items()}, {},
        ["lies far from", "another start", "--trust-init"]),
    "PEFT's LoftQ": (dict, {"loftq_config": {"loftq_bits": 4}}, ["quantized (LoftQ)", "--lossy"]),
    "a start that was drawn": (
        dict, {"init_lora_weights": False}, ["init_lora_weights is false", "plain LoRA as it is", "write true"]),
    "DoRA": (dict, {"use_dora": True}, ["use_dora", "merge_and_unload"]),
    "a bias in B": (dict, {"lora_bias": True}, ["lora_bias", "merge_and_unload"]),
    "aLoRA": (dict, {"alora_invocation_tokens": [5]}, ["alora_invocation_tokens", "residual"]),
    "copied layers": (dict, {"layer_replication": [[0, 2]]}, ["layer_replication", "merge_and_unload"]),
    "experts": (dict, {"target_parameters": ["w"]}, ["target_parameters", "experts"]),
    "Megatron": (dict, {"megatron_config": {"a": 1}}, ["megatron_config"]),
    "another method": (dict, {"peft_type": "LOHA"}, ["not the config of a LoRA"]),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_belong_together_is_refused(pissa_trained, tmp_path, case):
    tensors, fields, words = WRONG[case]
    adapter = changed(pissa_trained.adapter, tmp_path / "bad", tensors, **fields)
    refused(adapter, pissa_trained.init, tmp_path / "out", *words)


def test_the_start_is_examined_like_the_adapter(pissa_trained, tmp_path):
    bad = changed(pissa_trained.init, tmp_path / "bad", without(A_KEY))
    refused(pissa_trained.adapter, bad, tmp_path / "out", str(bad), "has no lora_A")
    refused(pissa_trained.adapter, tmp_path / "nowhere", tmp_path / "out", "--init", "no such folder", "hf download")
    refused(pissa_trained.adapter, pissa_trained.residual, tmp_path / "out", "not an adapter's folder")
    refused(pissa_trained.adapter, pissa_trained.adapter, tmp_path / "out", "one folder", "start of the training")


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
def test_a_cut_file_is_refused(pissa_trained, tmp_path, name):
    shutil.copytree(pissa_trained.adapter, tmp_path / "cut")
    path = tmp_path / "cut" / name
    path.write_bytes(path.read_bytes()[:-20])
    refused(tmp_path / "cut", pissa_trained.init, tmp_path / "out", str(path))


def test_a_pickle_is_refused_with_what_to_do(pissa_trained, tmp_path):
    shutil.copytree(pissa_trained.adapter, tmp_path / "old")
    (tmp_path / "old/adapter_model.safetensors").rename(tmp_path / "old/adapter_model.bin")
    refused(tmp_path / "old", pissa_trained.init, tmp_path / "out", "pickle", "weights_only=True", "save_file")


def test_several_adapters_in_a_folder_are_a_choice(pissa_trained, tmp_path):
    for name in ("a", "b"):
        shutil.copytree(pissa_trained.adapter, tmp_path / "both" / name)
    both = tmp_path / "both"
    refused(both, pissa_trained.init, tmp_path / "out", "several adapters", f"{both}/a, {both}/b")


def test_a_converted_adapter_is_not_converted_again(pissa_trained, tmp_path):
    pissa("convert", pissa_trained.adapter, "--init", pissa_trained.init, "--out", tmp_path / "lora")
    refused(tmp_path / "lora", pissa_trained.init, tmp_path / "out", "converted already", "untouched base")
    refused(pissa_trained.adapter, tmp_path / "lora", tmp_path / "out", "rank 4", "8 expected")


def test_only_what_was_converted_goes_back(pissa_trained, tmp_path):
    to = ("--to", "pissa")
    refused(pissa_trained.adapter, pissa_trained.init, tmp_path / "out", "rank 4", "8 expected", "twice", options=to)
    pissa("convert", pissa_trained.adapter, "--init", pissa_trained.init, "--out", tmp_path / "lora")
    moved = changed(tmp_path / "lora", tmp_path / "moved", lambda t: {k: v * 1.001 for k, v in t.items()})
    refused(moved, pissa_trained.init, tmp_path / "out", "second half", "not trained since", options=to)


def test_a_start_that_takes_nothing_out_is_not_that_of_pissa(pissa_trained, tmp_path):
    zero = changed(pissa_trained.init, tmp_path / "zero", lambda t: {k: v * 0 for k, v in t.items()})
    named = changed(pissa_trained.adapter, tmp_path / "named", init_lora_weights="pissa_niter_4")
    refused(named, zero, tmp_path / "out", "started as pissa_niter_4", "takes nothing out")


def test_an_untrained_adapter_is_told(pissa_trained, tmp_path, capsys):
    shutil.copytree(pissa_trained.init, tmp_path / "copy")
    pissa("convert", tmp_path / "copy", "--init", pissa_trained.init, "--out", tmp_path / "out")
    assert "Warning: A and B equal their start" in capsys.readouterr().out


def test_a_released_residual_in_few_bits_is_seen(pissa_trained, tmp_path):
    shutil.copytree(pissa_trained.init, tmp_path / "model/pissa_init")
    config = json.loads((pissa_trained.residual / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"] = {"quant_method": "bitsandbytes"}
    (tmp_path / "model/config.json").write_text(json.dumps(config), encoding="utf-8")
    words = ("quantized (bitsandbytes)", "--lossy")
    refused(pissa_trained.adapter, tmp_path / "model", tmp_path / "out", *words)


@pytest.mark.filterwarnings("ignore")
def test_a_start_on_a_head_that_is_the_embedding_too(tied, tmp_path, capsys):
    """PEFT takes it out of both; of an adapter without a model's folder it is said, and the logits tell."""
    trained = train(tied, tmp_path, target_modules=["q_proj", "lm_head"], **START["pissa"])
    words = ("its start was taken out of lm_head", "shares between head and embedding")
    refused(trained.adapter, trained.init, tmp_path / "out", *words, str(tied))
    sources = {"init": trained.init, "adapter": trained.adapter}
    init, adapter = (changed(one, tmp_path / f"no/{k}", base_model_name_or_path=None) for k, one in sources.items())
    check = ("--check", trained.residual, "--base-folder", tied)
    refused(adapter, init, tmp_path / "out", *words, str(trained.residual), options=check)
    around = shutil.copytree(init, shutil.copytree(trained.residual, tmp_path / "released") / "pissa_init")
    refused(adapter, around, tmp_path / "out", *words, str(tmp_path / "released"))
    pissa("convert", adapter, "--init", init, "--out", tmp_path / "out")
    said = "Not right where lm_head shares its weight with the embedding"
    assert said in capsys.readouterr().out and said in (tmp_path / "out/README.md").read_text(encoding="utf-8")


def test_a_folder_that_exists_is_not_touched(pissa_trained, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").write_text("mine", encoding="utf-8")
    words = ("convert", pissa_trained.adapter, "--init", pissa_trained.init, "--out", tmp_path / "out")
    says(lambda: pissa(*words), "--out", "exists already")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--to", "lor"), ["--to", "'lor'", "Did you mean 'lora'", "pissa"]),
        (("--base", "/models/llama"), ["--base /models/llama", "hub id"]),
        (("--check", "x"), ["--base-folder", "needs the other"]),
    ],
)
def test_a_wrong_option_is_named(pissa_trained, tmp_path, options, words):
    refused(pissa_trained.adapter, pissa_trained.init, tmp_path / "out", *words, options=options)


def test_a_base_that_is_not_the_residual_is_found(pissa_trained, tiny_model, tiny_gpt2, tmp_path):
    options = ("--check", tiny_model, "--base-folder", tiny_model)
    refused(pissa_trained.adapter, pissa_trained.init, tmp_path / "out", "logits differ", "limit", options=options)
    options = ("--check", tiny_gpt2["saved"], "--base-folder", tiny_model)
    refused(pissa_trained.adapter, pissa_trained.init, tmp_path / "out", str(tiny_gpt2["saved"]), options=options)
    options = ("--check", tmp_path / "none", "--base-folder", tiny_model)
    refused(pissa_trained.adapter, pissa_trained.init, tmp_path / "out", str(tmp_path / "none"), options=options)


def test_no_space_is_told_before_the_work(pissa_trained, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 0, 9))
    refused(pissa_trained.adapter, pissa_trained.init, tmp_path / "out", "9 are free")


def test_a_disk_that_fills_up_leaves_nothing(pissa_trained, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    words = ("convert", pissa_trained.adapter, "--init", pissa_trained.init, "--out", tmp_path / "out")
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(SystemExit, match="Nothing unfinished was kept"):
            run_stage(lambda: pissa(*words))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_one_tensor_is_in_memory_at_a_time(tmp_path):
    """The writer asks for a tensor when the one before is written."""
    sizes = []

    def make(count):
        sizes.append((tmp_path / next(path.name for path in tmp_path.iterdir())).stat().st_size)
        return torch.full((count,), 1.0)

    entries = {str(n): streamed.Entry("F32", (50_000,), lambda: make(50_000)) for n in range(3)}
    streamed.write(tmp_path / "x", entries)
    assert sizes[0] < 200_000 <= sizes[1] < 400_000 <= sizes[2]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("start", ["olora", "pissa_niter_4"])
def test_an_adapter_of_two_starts_is_found(tiny_model, pissa_trained, tmp_path, start):
    """Of one model, with the same shapes and scaling; a fast SVD gives other signs."""
    other = train(tiny_model, tmp_path, steps=0, init_lora_weights=start)
    refused(pissa_trained.adapter, other.init, tmp_path / "out", "lies far from", "--trust-init")
