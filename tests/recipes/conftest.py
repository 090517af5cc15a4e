"""A folder in which the recipes run as they stand: tiny models and rows lie in it under the names of the hub's."""

import json
from pathlib import Path

import pytest
from page import RECIPES, run
from tiny import ROWS


@pytest.fixture
def recipe(tiny_model, tmp_path, monkeypatch):
    """Runs a recipe by its name in the current folder: up to a heading, with words replaced, given more names."""
    save_models(tmp_path)
    (tmp_path / "meta-llama").mkdir()
    (tmp_path / "meta-llama/Llama-2-7b-hf").symlink_to(tiny_model)
    save_rows(tmp_path / "stanfordnlp/imdb/train.jsonl")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")

    def ran(name: str, replaced: dict[str, str] | None = None, until: str | None = None, **names):
        text = RECIPES[name]
        if until:
            text, found, _ = text.partition(until)
            assert found
        for old, new in (replaced or {}).items():
            assert old in text
            text = text.replace(old, new)
        return run(text, names)

    return ran


def save_rows(path: Path) -> None:
    """840 short reviews, of which a recipe takes 1 %."""
    path.parent.mkdir(parents=True)
    rows = [{"text": f"{text} I {'liked' if n % 2 else 'hated'} it.", "label": n % 2}
            for n, (text, _) in enumerate(ROWS * 70)]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def save_models(folder: Path) -> None:
    """A T5 and a GPT-J of a few thousand weights, without tokenizers."""
    import torch
    from transformers import GPTJConfig, GPTJForCausalLM, T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    sizes = {"d_model": 32, "d_kv": 8, "num_heads": 4, "d_ff": 48, "num_layers": 1, "vocab_size": 64}
    t5 = T5ForConditionalGeneration(T5Config(**sizes, decoder_start_token_id=0))
    t5.save_pretrained(folder / "google-t5/t5-base")
    sizes = {"n_embd": 64, "n_layer": 1, "n_head": 4, "rotary_dim": 8, "n_positions": 64, "vocab_size": 64}
    gptj = GPTJForCausalLM(GPTJConfig(**sizes, bos_token_id=1, eos_token_id=2))
    gptj.half().save_pretrained(folder / "EleutherAI/gpt-j-6b")
