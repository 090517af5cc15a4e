"""Case 14: a model's tokenizer is whole, and the model has an embedding for every id in use."""

import json
import shutil
from pathlib import Path

import pytest
from admitting import GOOD, admitted
from damage import edit
from stage import says

from pissa_repro.sources.fetched import WEIGHTS


@pytest.fixture
def copied(tiny_model, tmp_path) -> Path:
    """A copy of the tiny model to change."""
    return Path(shutil.copytree(tiny_model, tmp_path / "copied"))


def with_token(folder: Path, text: str, **fields) -> None:
    """Add a token beyond the embedding's 300 rows to the tokenizer's files."""
    whole = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    token = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    whole["added_tokens"].append({"id": 300, "content": text, "special": True, **token})
    (folder / "tokenizer.json").write_text(json.dumps(whole), encoding="utf-8")
    edit(folder / "tokenizer_config.json", **fields)


def slow(folder: Path, *files: str) -> None:
    """Put the vocabulary into the files of a slow tokenizer, of which only these are there."""
    model = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    (folder / "tokenizer.json").unlink()
    edit(folder / "tokenizer_config.json", tokenizer_class="GPT2Tokenizer", unk_token="</s>")
    merges = "\n".join(pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"])
    texts = {"vocab.json": json.dumps(model["vocab"]), "merges.txt": f"#version: 0.2\n{merges}\n"}
    for name in files:
        (folder / name).write_text(texts[name], encoding="utf-8")


def test_a_pad_token_without_an_embedding(copied, tmp_path):
    """Case 14: padding a batch with id 300 of 300 rows ended the training in an index error (09)."""
    with_token(copied, "[PAD]", pad_token="[PAD]")
    says(lambda: admitted(copied, tmp_path), "pad_token", "'[PAD]'", "300", "eos pads")


def test_an_added_token_without_an_embedding_may_be_there_but_not_in_rows(copied, tmp_path):
    """Case 14: what counts are the ids of the rows, of training and of tasks."""
    with_token(copied, "<extra>")
    found = admitted(copied, tmp_path)
    assert found["tokenizer"] == {"tokens": 301, "unused": 1, "embedding_rows": 300}
    assert "1 added tokens" in found["warnings"][0]
    odd = {"prompt": "Say <extra>.", "response": "#### 1"}
    says(lambda: admitted(copied, tmp_path, [*GOOD, odd]), "config.datasets.rows", "row 6", "300")
    says(lambda: admitted(copied, tmp_path, test=[odd]), "config.tasks.task", "row 0", "300")
    dropped = {"prompt": "a " * 600, "response": "b"}
    says(lambda: admitted(copied, tmp_path, [dropped, *GOOD, odd]), "config.datasets.rows", "row 7", "300")
    turns = {"turns": ["one", "two <extra>"], "category": "math"}
    says(lambda: admitted(copied, tmp_path, test=[turns], task="mt_bench"), "config.tasks.task", "later turns", "300")


def test_another_models_tokenizer(copied, tmp_path):
    """Case 14: a vocabulary that is larger than the embedding."""
    whole = json.loads((copied / "tokenizer.json").read_text(encoding="utf-8"))
    whole["model"]["vocab"] |= {f"token{n}": 300 + n for n in range(50)}
    (copied / "tokenizer.json").write_text(json.dumps(whole), encoding="utf-8")
    says(lambda: admitted(copied, tmp_path), "350 tokens", "300 rows", "another model")


@pytest.mark.parametrize("files", [("vocab.json",), ("merges.txt",), ()], ids=lambda files: "+".join(files) or "none")
def test_a_slow_tokenizer_with_files_missing(copied, tmp_path, files):
    """Case 14: without any file transformers makes a tokenizer of two tokens, and gives no ids for any text."""
    slow(copied, *files)
    says(lambda: admitted(copied, tmp_path), str(copied), "vocab.json and merges.txt", files[0] if files else "none")


def test_a_whole_slow_tokenizer_is_admitted_and_its_files_are_fetched(copied, tmp_path):
    """Case 14: merges.txt and vocab.txt come with a model from a hub too."""
    slow(copied, "vocab.json", "merges.txt")
    assert admitted(copied, tmp_path)["tokenizer"]["tokens"] == 300
    for name in ("merges.txt", "vocab.txt", "vocab.json", "tokenizer.model"):
        assert any(Path(name).match(pattern) for pattern in WEIGHTS), name
