"""What is wrong with an adapter of somebody else is said before anything is written."""

import json
import shutil

import pytest
import torch
from commands import pissa
from encoders import save_encoder_decoder
from helpers import config
from peer import START, changed, train
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from stage import says
from taken import Taken
from tiny import byte_tokenizer
from transformers import AutoModelForSeq2SeqLM

from pissa_repro.plan.checked import checked
from pissa_repro.plan.sweep import Sweep
from pissa_repro.runtime.record import read_json, write_json

NAME = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


@pytest.fixture(scope="session")
def lora_trained(tiny_model, tmp_path_factory):
    """LoRA at rank 4, two steps. Do not write to its folders."""
    return train(tiny_model, tmp_path_factory.mktemp("lora"))


def without(tensors):
    return {key: tensor for key, tensor in tensors.items() if key != NAME.replace("lora_A", "lora_B")}


def without_module(tensors):
    return {key: tensor for key, tensor in tensors.items() if ".0.self_attn.q_proj." not in key}


def renamed(tensors):
    return {key.replace("layers.0.", "layers.7."): tensor for key, tensor in tensors.items()}


def wider(tensors):
    return {k: torch.cat([t, t], dim=1) if "lora_A" in k else t for k, t in tensors.items()}


def not_a_number(tensors):
    return tensors | {NAME: tensors[NAME] * float("nan")}


BROKEN = {  # what is changed of a good adapter: its tensors, its config; and what the message says
    "a side is missing": (without, {}, ["q_proj has no lora_B"]),
    "a module is missing": (without_module, {}, ["lacks", "layers.0.self_attn.q_proj"]),
    "modules that the base has not": (renamed, {}, ["layers.7", "no place for"]),
    "a base of another size": (wider, {}, ["(4, 128)", "the base needs (4, 64)", "another size"]),
    "another rank": (None, {"r": 8}, ["rank 8"]),
    "a newer PEFT": (None, {"use_something": True}, ["use_something", "does not know"]),
    "another task": (None, {"task_type": "SEQ_CLS"}, ["SEQ_CLS", "CAUSAL_LM"]),
    "another kind": (None, {"peft_type": "IA3"}, ["LORA"]),
    "repeated layers": (None, {"layer_replication": [[0, 2], [1, 2]]}, ["layer_replication"]),
    "NaN": (not_a_number, {}, ["NaN"]),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_adapter(lora_trained, tiny_model, tiny_rows, tmp_path, case):
    tensors, fields, words = BROKEN[case]
    folder = changed(lora_trained.adapter, tmp_path / "broken", tensors or (lambda given: given), **fields)
    taken = Taken(tmp_path / "taken", tiny_model, tiny_rows, adapter=folder)
    says(taken.adopt, *words)
    assert not taken.files.folder.exists()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("module", ["lm_head", "embed_tokens"])
def test_factors_on_a_weight_that_two_modules_share(tied, tiny_rows, tmp_path, module):
    """Merged into the one, they change the other."""
    trained = train(tied, tmp_path, target_modules=["q_proj", module])
    taken = Taken(tmp_path / "taken", tied, tiny_rows, adapter=trained.adapter)
    says(taken.adopt, f"factors on {'model.' * (module != 'lm_head')}{module}", "shares between its embedding and its")


def test_a_cut_file(lora_trained, tiny_model, tiny_rows, tmp_path):
    folder = changed(lora_trained.adapter, tmp_path / "cut")
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    says(Taken(tmp_path / "taken", tiny_model, tiny_rows, adapter=folder).adopt, "its header promises")


def other_model(tiny_model, folder, change):
    """A copy of the model whose weights were changed: of another revision."""
    shutil.copytree(tiny_model, folder)
    tensors = {key: change(tensor) for key, tensor in load_file(folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def nudged(weight):
    return weight + 0.01 * weight.std() * torch.randn(weight.shape, generator=torch.Generator().manual_seed(3))


def redrawn(weight):
    return weight.flip(0) if weight.ndim == 2 else weight


@pytest.fixture(scope="session")
def released(pissa_trained, tmp_path_factory):
    """A residual as it is released: the model, and its start in pissa_init/. Do not write to it."""
    folder = tmp_path_factory.mktemp("released") / "residual"
    shutil.copytree(pissa_trained.residual, folder)
    shutil.copytree(pissa_trained.init, folder / "pissa_init")
    return folder


def test_a_residual_of_another_revision_of_the_base(pissa_trained, released, tiny_model, tiny_rows, tmp_path):
    """One percent off is another fine-tuning of the same model; the bits of one stored in float32 tell."""
    base = other_model(tiny_model, tmp_path / "base", nudged)
    given = {"adapter": pissa_trained.adapter, "residual": released}
    says(Taken(tmp_path / "wrong", base, tiny_rows, **given).adopt, "is not the base's weight less the start", "F32")
    assert "off by" in " ".join(Taken(tmp_path / "right", tiny_model, tiny_rows, **given).adopt()["notes"])


def test_a_residual_in_bfloat16_is_compared_by_its_rounding(pissa_trained, released, tiny_model, tiny_rows, tmp_path):
    rounded = tmp_path / "rounded"
    shutil.copytree(released, rounded)
    tensors = {key: tensor.bfloat16() for key, tensor in load_file(rounded / "model.safetensors").items()}
    save_file(tensors, rounded / "model.safetensors", {"format": "pt"})
    given = {"adapter": pissa_trained.adapter, "residual": rounded}
    assert Taken(tmp_path / "right", tiny_model, tiny_rows, **given).adopt()["rank"] == 4
    base = other_model(tiny_model, tmp_path / "base", nudged)
    says(Taken(tmp_path / "wrong", base, tiny_rows, **given).adopt, "BF16", "another model or revision")


def test_a_start_that_was_taken_out_of_another_model(pissa_trained, tiny_model, tiny_rows, tmp_path):
    base = other_model(tiny_model, tmp_path / "base", redrawn)
    given = {"adapter": pissa_trained.adapter, "init": pissa_trained.init}
    taken = Taken(tmp_path / "taken", base, tiny_rows, **given)
    says(taken.adopt, "is no part of the weights", "another model or revision", "trust")
    assert Taken(tmp_path / "trusted", base, tiny_rows, trust=True, **given).adopt()["rank"] == 4


@pytest.mark.parametrize("start", ["pissa", "olora"])
def test_an_adapter_of_a_residual_is_not_taken_for_a_plain_one(tiny_model, tiny_rows, tmp_path, start):
    """Its config says nothing of it, as PEFT's documentation tells to write it; its numbers do."""
    trained = train(tiny_model, tmp_path, **START[start])
    taken = Taken(tmp_path / "taken", tiny_model, tiny_rows, adapter=trained.adapter)
    says(taken.adopt, "lies on a residual", "--init", "--residual")
    named = changed(trained.adapter, tmp_path / "named", init_lora_weights=start)
    says(Taken(tmp_path / "other", tiny_model, tiny_rows, adapter=named).adopt, f"was started as {start}")


@pytest.mark.parametrize("rank", [1, 4, 16])
def test_a_plain_adapter_is_not_taken_for_one_of_a_residual(tiny_model, tiny_rows, tmp_path, rank):
    """Whatever it has learnt, even a lot of it."""
    trained = train(tiny_model, tmp_path, steps=20, rate=2e-2, r=rank)
    assert Taken(tmp_path / "taken", tiny_model, tiny_rows, adapter=trained.adapter).adopt()["rank"] == rank


def test_a_converted_adapter_is_no_raw_one(pissa_trained, tiny_model, tiny_rows, tmp_path):
    pissa("convert", pissa_trained.adapter, "--init", pissa_trained.init, "--out", tmp_path / "lora")
    given = {"adapter": tmp_path / "lora", "init": pissa_trained.init}
    says(Taken(tmp_path / "taken", tiny_model, tiny_rows, **given).adopt, "is converted already")
    assert Taken(tmp_path / "plain", tiny_model, tiny_rows, adapter=tmp_path / "lora").adopt()["rank"] == 8


def test_dora_on_a_residual(pissa_trained, tiny_model, tiny_rows, tmp_path):
    trained = train(tiny_model, tmp_path, use_dora=True, **START["pissa"])
    given = {"adapter": trained.adapter, "init": trained.init}
    says(Taken(tmp_path / "taken", tiny_model, tiny_rows, **given).adopt, "use_dora", "Merge it instead")


def test_a_tokenizer_that_reads_prompts_otherwise(lora_trained, tiny_model, tiny_rows, tmp_path):
    folder = changed(lora_trained.adapter, tmp_path / "with")
    byte_tokenizer("$A </s>").save_pretrained(folder)
    says(Taken(tmp_path / "taken", tiny_model, tiny_rows, adapter=folder).adopt, "makes other tokens of a prompt")


def test_the_weights_that_a_folder_says_it_is_of(lora_trained, tiny_model, tiny_rows, tmp_path):
    folder = changed(lora_trained.adapter, tmp_path / "of")
    (folder / "factors").mkdir()
    known = {"name": "lab/other", "fingerprint": "f" * 64, "offset": None, "quant": "none", "format": 1}
    (folder / "factors/base.json").write_text(json.dumps(known), encoding="utf-8")
    says(Taken(tmp_path / "taken", tiny_model, tiny_rows, adapter=folder).adopt, "made for the weights ffffffffffff")


def test_loftq_on_a_plain_base(lora_trained, tiny_model, tiny_rows, tmp_path):
    """PEFT's adapter says that it began so; it made up for what nf4 took, which is there on a plain base."""
    folder = changed(lora_trained.adapter, tmp_path / "loftq", init_lora_weights="loftq")
    says(Taken(tmp_path / "taken", tiny_model, tiny_rows, adapter=folder).adopt, "(LoftQ)", "`quant: nf4, or another`")
    record = Taken(tmp_path / "nf4", tiny_model, tiny_rows, adapter=folder, quant="nf4").adopt()
    assert record["trained_as"] == "LoftQ"


def test_another_revision_by_name(lora_trained, tiny_model, tiny_rows, tmp_path):
    """A base from a hub: its commit is known, and the adapter's config may name one."""
    of = {"base_model_name_or_path": "lab/tiny", "revision": "a" * 40}
    taken = Taken(
        tmp_path / "taken", tiny_model, tiny_rows, adapter=changed(lora_trained.adapter, tmp_path / "of", **of)
    )
    record = read_json(taken.model)
    write_json(taken.model, record | {"name": "lab/tiny", "commit": "b" * 40})
    says(taken.adopt, f"names revision {'a' * 40} of lab/tiny", f"is revision {'b' * 40}")
    write_json(taken.model, record | {"name": "lab/other", "commit": "b" * 40})
    assert "Its config names the base lab/tiny" in " ".join(taken.adopt()["notes"])
    written = read_json(taken.files.trained / "adapter_config.json")
    assert (written["base_model_name_or_path"], written["revision"]) == ("lab/other", "b" * 40)


def test_an_output_that_exists(lora_trained, tiny_model, tiny_rows, tmp_path):
    taken = Taken(tmp_path / "taken", tiny_model, tiny_rows, adapter=lora_trained.adapter)
    taken.adopt()
    says(taken.adopt, "exists already")
    (tmp_path / "there.yaml").touch()
    words = ("--base", tiny_model, "--out", tmp_path / "there.yaml")
    says(lambda: pissa("adopt", lora_trained.adapter, *words), "exists already")


DRY = {  # what is changed of a good definition, and what the dry run says
    "no folder": ({"adapter": "nowhere"}, ["config.adopted.theirs.adapter", "nowhere", "hf download"]),
    "no adapter": ({"init": "{model}"}, ["config.adopted.theirs.init", "no adapter_config.json"]),
    "model": ({"model": "tyny"}, ["config.adopted.theirs.model", "'tyny'", "Did you mean 'tiny'"]),
    "dataset": ({"dataset": "row"}, ["config.adopted.theirs.dataset", "Did you mean 'rows'"]),
    "not swept": ({"dataset": "others"}, ["'others' is not swept", "rows"]),
    "quant": ({"quant": "nf5"}, ["config.adopted.theirs.quant", "'nf5'", "'nf4'"]),
    "both": ({"init": "a", "residual": "b"}, ["'init' or 'residual'", "not both"]),
    "key": ({"adaptor": "a"}, ["config.adopted.theirs", "Did you mean 'adapter'"]),
}


@pytest.mark.parametrize("case", DRY)
def test_a_dry_run_refuses(lora_trained, tiny_model, tiny_rows, case):
    changes, words = DRY[case]
    written = defined(tiny_model, tiny_rows, lora_trained.adapter)
    written["datasets"]["others"] = written["datasets"]["rows"]
    written["adopted"]["theirs"] |= {key: value.format(model=tiny_model) for key, value in changes.items()}
    says(lambda: checked(written), *words)


def defined(model, rows, adapter):
    """A config with one adopted adapter."""
    written = config(model, rows, "lora", "none")
    written["adopted"] = {"theirs": {"adapter": str(adapter), "model": "tiny", "dataset": "rows"}}
    written["sweep"]["adopted"] = ["theirs"]
    return written


def test_names_and_labels(lora_trained, tiny_model, tiny_rows):
    good = defined(tiny_model, tiny_rows, lora_trained.adapter)
    assert [*Sweep(good).adopted] == ["tiny/rows/theirs"]
    good["sweep"]["adopted"] = ["them"]
    says(lambda: Sweep(good), "config.sweep.adopted", "'them'", "Did you mean 'theirs'")
    good["adopted"]["lora-none-r4-lr0.001-s0"] = good["adopted"].pop("theirs")
    good["sweep"]["adopted"] = ["lora-none-r4-lr0.001-s0"]
    says(lambda: Sweep(good), "ends like a trained cell's")
    twice = defined(tiny_model, tiny_rows, lora_trained.adapter)
    twice["adopted"]["others"] = twice["adopted"]["theirs"] | {"display": "theirs"}
    twice["sweep"]["adopted"] = ["theirs", "others"]
    says(lambda: Sweep(twice), "two rows would be called 'theirs (trained elsewhere)'")


def test_a_sweep_without_any_is_what_it_was(tiny_model, tiny_rows):
    """No key of a config that names none, no batch and no spec knows of them."""
    sweep, batches = checked(config(tiny_model, tiny_rows, "lora", "none"))
    assert "adopted" not in sweep.config and "adopted" not in sweep.config["sweep"]
    assert [name for name in batches.by_name if "adopted" in name] == []


def test_an_adapter_of_an_encoder_decoder_that_says_no_task(tiny_rows, tmp_path):
    """PEFT takes it as it is; whether its model is causal is the base's to say."""
    base = save_encoder_decoder(tmp_path / "t5", "t5")
    model = AutoModelForSeq2SeqLM.from_pretrained(base)
    get_peft_model(model, LoraConfig(target_modules=["q", "v"])).save_pretrained(tmp_path / "lora")
    taken = Taken(tmp_path / "taken", base, tiny_rows, adapter=tmp_path / "lora")
    says(taken.adopt, "the base is SEQ_2_SEQ_LM", "CAUSAL_LM")
