"""The models and rows of the tests of sequence classification, each written once."""

from pathlib import Path

import pytest
from classifiers import NAMED, TEXTS, save_bert

from pissa_repro.runtime.record import write_lines


@pytest.fixture(scope="session")
def models(tmp_path_factory, tiny_model) -> dict[str, Path]:
    """Language models, none of them with a head for classes. Do not write to them."""
    bert = save_bert(tmp_path_factory.mktemp("classify") / "bert", "BertForPreTraining")
    return {"bert": bert, "llama": tiny_model}


@pytest.fixture(scope="session")
def rows(tmp_path_factory) -> dict[str, Path]:
    """Fetched rows: of one text with the labels 0 and 1, of two with the labels even and odd."""
    folder = tmp_path_factory.mktemp("rows")
    found = {"one": folder / "one.jsonl", "two": folder / "two.jsonl"}
    write_lines(found["one"], TEXTS)
    write_lines(found["two"], NAMED)
    return found
