"""What several files here share: an adapter that stock PEFT trained from PiSSA, a model in several files."""

from pathlib import Path

import pytest
import torch
from decomposed import decompose
from peer import START, train
from transformers import AutoModelForCausalLM, AutoTokenizer


@pytest.fixture(scope="session")
def pissa_trained(tiny_model, tmp_path_factory):
    """PiSSA at rank 4, alpha 8, two steps. Do not write to its folders."""
    return train(tiny_model, tmp_path_factory.mktemp("pissa"), **START["pissa"])


@pytest.fixture(scope="session")
def tied(tiny_model, tmp_path_factory) -> Path:
    """The tiny model with its embedding for its head. Do not write to it."""
    folder = tmp_path_factory.mktemp("tied") / "model"
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    model.lm_head.weight, model.config.tie_word_embeddings = model.model.embed_tokens.weight, True
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def sharded(tiny_model, tmp_path_factory) -> Path:
    """The tiny model in bfloat16, in several files, with a licence and a chat template. Do not write to it."""
    folder = tmp_path_factory.mktemp("sharded") / "model"
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16)
    model.save_pretrained(folder, max_shard_size="60kB")
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    for name in ("LICENSE.txt", "chat_template.jinja"):
        (folder / name).write_text(name, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def residual(tiny_model, tmp_path_factory) -> Path:
    """Of rank 4 and alpha 8, in float32. Do not write to it."""
    return decompose(tiny_model, tmp_path_factory.mktemp("pair") / "out", "--alpha", 8)
