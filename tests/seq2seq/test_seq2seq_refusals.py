"""What cannot be done with an encoder-decoder, and which of them cannot be trained, is said before any work."""

import json
import shutil

import pytest
import torch
from admitting import admitted
from damage import add, edit
from encoders import BART, KINDS, TARGETS
from helpers import Run, config, scored_rows
from safetensors.torch import load_file, save_file
from stage import says
from tiny import byte_tokenizer
from transformers import AutoModelForSeq2SeqLM, GPT2Config, MBartConfig, MBartForConditionalGeneration

from pissa_repro.model.calibration import hessians
from pissa_repro.model.checkpoint import projections
from pissa_repro.model.load import load_base
from pissa_repro.model.skeleton import skeleton
from pissa_repro.plan.checked import checked
from pissa_repro.plan.sweep import Sweep

LAYERS = {
    "t5": {"q", "k", "v", "o", "wi", "wo"},
    "gated": {"q", "k", "v", "o", "wi_0", "wi_1", "wo"},
    "bart": {"q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_both_halves_get_factors(models, tmp_path, kind):
    """Two layers of each half: an attention and a feed-forward in the encoder, one attention more in the decoder."""
    assert {name.rsplit(".", 1)[-1] for name in projections(models[kind])} == LAYERS[kind]
    found = admitted(models[kind], tmp_path, target_modules=projections(models[kind]))
    feed_forward = len(LAYERS[kind]) - 4
    assert sum(found["modules"].values()) == 2 * (4 + feed_forward) + 2 * (8 + feed_forward)
    assert found["architecture"] == "seq2seq" and not found["warnings"]


def test_a_head_of_its_own_is_kept_and_saved(models, tmp_path):
    """T5's classes say of every model that it is tied; lm-eval would tie it once more before it scores."""
    model = load_base(models["gated"])
    stock = AutoModelForSeq2SeqLM.from_pretrained(models["gated"])
    assert torch.equal(model.lm_head.weight, stock.lm_head.weight)
    model.tie_weights()
    assert not torch.equal(model.lm_head.weight, model.shared.weight)
    model.save_pretrained(tmp_path / "saved")
    again = load_base(tmp_path / "saved")
    assert torch.equal(again.lm_head.weight, stock.lm_head.weight) and not again.config.scale_decoder_outputs


def test_a_head_that_the_config_ties_must_be_the_embedding(models, tmp_path):
    folder = shutil.copytree(models["bart"], tmp_path / "bart")
    add(folder, lm_head__weight=torch.zeros(300, BART["d_model"]))
    says(lambda: load_base(folder), str(folder), "tie_word_embeddings", "two different")


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_admission_tells_what_no_encoder_decoder_can_do(models, tmp_path, kind):
    targets = TARGETS[kind]
    says(
        lambda: admitted(models[kind], tmp_path, backend="vllm", target_modules=targets),
        "vllm",
        "Choose the backend hf",
    )
    texts = [{"text": "Two and three are five."}]
    asked = {"task": "perplexity", "test": texts, "target_modules": targets}
    says(lambda: admitted(models[kind], tmp_path, **asked), "config.tasks.task", "predicts a text", "that generates")


@pytest.mark.parametrize("what", ["vllm", "gptq"])
def test_the_dry_run_tells_what_no_encoder_decoder_can_do(models, tiny_rows, what):
    """Where its folder is at hand; a causal model in its place passes."""
    given = config(models["t5"], tiny_rows, "lora", "none")
    if what == "vllm":
        given["tasks"]["task"]["backend"], words = "vllm", ["config.tasks.task.backend", "no encoder-decoders"]
    else:
        given["studies"] = {"gptq": {"calibration": "rows", "text": "rows", "rows": 2}}
        words = ["config.studies.gptq", "causal", "seq2seq"]
    says(lambda: checked(given), *words, "'tiny'")


def test_training_rows_and_answers_with_strange_tokens_are_told(models, tmp_path):
    """The response has no place among the encoder's tokens: it is looked at by itself."""
    folder = shutil.copytree(models["bart"], tmp_path / "bart")
    tokenizer = byte_tokenizer("<s> $A </s>")
    tokenizer.add_tokens(["<new>"])
    tokenizer.save_pretrained(folder)
    rows = [{"prompt": "one", "response": "<new>"}]
    says(lambda: admitted(folder, tmp_path, train=rows, target_modules=TARGETS["bart"]), "token id 300", "300 rows")


def test_by_hand_it_is_told_before_the_model_is_loaded(models, tmp_path, tiny_rows, monkeypatch):
    run = Run(tmp_path, models["t5"], tiny_rows, "lora", target_modules=TARGETS["t5"], steps=1)
    run.init()
    run.train()
    run.rows = scored_rows(tmp_path)
    monkeypatch.setattr("pissa_repro.scoring.engines.check", lambda *_: None)  # as where vllm is installed
    honest = Sweep.asked
    monkeypatch.setattr(Sweep, "asked", lambda self, task: {**honest(self, task), "backend": "vllm"})
    monkeypatch.setattr("pissa_repro.scoring.generator.merged_model", None)
    says(run.evaluate, "vLLM runs no encoder-decoders", "Choose the backend hf")


def test_an_answer_begins_with_one_token_for_all(models, tmp_path):
    """mBART begins with the language of each example."""
    config = MBartConfig(vocab_size=300, decoder_start_token_id=2, **BART)
    MBartForConditionalGeneration(config).save_pretrained(tmp_path / "mbart")
    says(lambda: skeleton(tmp_path / "mbart"), "mbart", "its language", "such as T5 or BART")
    folder = shutil.copytree(models["t5"], tmp_path / "t5")
    edit(folder / "config.json", decoder_start_token_id=None)
    says(lambda: skeleton(folder), str(folder), "decoder_start_token_id")


ONE_LAYER = GPT2Config(n_layer=1).to_dict()
OTHERS = {
    "encoder-decoder": ({"encoder": ONE_LAYER, "decoder": ONE_LAYER}, "several models (encoder, decoder)"),
    "whisper": ({}, "not to read text"),
    "t5": ({"architectures": ["T5ForSequenceClassification"]}, "classes and no words"),
    "gpt2": ({"architectures": ["GPT2ForSequenceClassification"]}, "classes and no words"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_architectures_are_told_before_any_weight_is_read(tmp_path, name):
    content, words = OTHERS[name]
    whole = {"model_type": name, "is_encoder_decoder": name != "gpt2", **content}
    (tmp_path / "config.json").write_text(json.dumps(whole), encoding="utf-8")
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    says(lambda: skeleton(tmp_path), str(tmp_path), name, words, "Choices: causal language models of text", "T5, BART")


def test_calibration_is_for_causal_models(models):
    says(lambda: hessians(models["t5"], [{"prompt": "a", "response": "b"}], ["q"]), str(models["t5"]), "GPTQ", "causal")


def test_all_weights_are_used(models, tmp_path):
    """The head and both embeddings are one tensor in the files; nothing is made up, nothing is left out."""
    assert {"lm_head.weight", "encoder.embed_tokens.weight"}.isdisjoint(load_file(models["t5"] / "model.safetensors"))
    assert skeleton(models["t5"]).lm_head.weight.device.type == "meta"
    folder = shutil.copytree(models["t5"], tmp_path / "t5")
    add(folder, ("decoder.final_layer_norm.weight",))
    says(lambda: skeleton(folder), str(folder), "decoder.final_layer_norm.weight", "do not hold")


GOOD = [{"prompt": "What is 1 + 1?", "response": "2"}]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train": [{"text": "a plain text"}]}, ("reads a prompt and writes a response", "plain text")),
        ({"train": GOOD, "loss": "all"}, ("config.train.loss", "Choose 'response'")),
        ({"train": GOOD, "prompt": "chat"}, ("config.train.prompt", "for causal models", "alpaca, plain")),
    ],
)
def test_what_only_a_causal_model_can_be_trained_on(models, tmp_path, changes, words):
    says(lambda: admitted(models["t5"], tmp_path, target_modules=TARGETS["t5"], **changes), *words)
