"""Data that is damaged, missing, too short or too long: every case ends in one message with the file and the place."""

import gzip

import pytest
from stage import FIELDS, LINE, says

from pissa_repro.sources.fetched import fetch_dataset
from pissa_repro.training.examples import tokenize


def rows_of(path, **more):
    return fetch_dataset({"path": str(path), "fields": FIELDS, **more})


BAD_DATA = [
    ("d.jsonl", b"", ["empty"]),
    ("d.jsonl", b"\n\n", ["empty"]),
    ("d.jsonl", LINE + b'{"question": "q", "anwser": "a"}\n', ["fields.response", "row 1", "'answer'", "anwser"]),
    ("d.jsonl", LINE + b'{"question": null, "answer": "a"}\n', ["fields.prompt", "row 1", "null"]),
    ("d.jsonl", LINE + b"\n" + b'{"question": "q", \n', ["line 3", "not JSON"]),
    ("d.jsonl", LINE + b"[1, 2]\n", ["row 1", "list"]),
    ("d.jsonl", LINE + b'"text"\n', ["row 1", "str"]),
    ("d.jsonl", LINE + b'{"question": "\xff", "answer": "a"}\n', ["damaged"]),
    ("d.jsonl.gz", LINE, ["damaged"]),
    ("d.jsonl.gz", gzip.compress(LINE * 100, mtime=0)[:-12], ["damaged"]),
    ("d.json", b'[{"question": "q"', ["damaged"]),
    ("d.json", LINE, ["one list", "dict"]),
    ("d.parquet", LINE, ["damaged"]),
    ("d.csv", b"question,answer\nq,a\n", ["unknown data format", ".parquet", ".jsonl.gz"]),
]


@pytest.mark.parametrize(("name", "content", "words"), BAD_DATA)
def test_bad_data_names_file_and_place(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content)
    says(lambda: rows_of(path), name, *words)


def test_fewer_rows_than_asked_for(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_bytes(LINE * 3)
    says(lambda: rows_of(path, rows=4), "d.jsonl", ".rows", "4 rows asked for", "has 3")


def test_missing_data_and_unknown_split(tmp_path):
    says(lambda: rows_of(tmp_path / "none.jsonl"), "none.jsonl", "no such data file")
    says(lambda: rows_of("embedded:trian"), "'trian'", "'train'", "test")


def test_examples_longer_than_the_window_are_counted(tiny_model):
    from pissa_repro.model.tokens import load_tokenizer

    tokenizer = load_tokenizer(tiny_model)
    rows = [{"prompt": p, "response": r} for p, r in [("a", "b"), ("a", "b " * 300), ("a " * 300, "b")]]
    examples, lengths = tokenize(rows, tokenizer, 256)
    assert (lengths.examples, lengths.truncated, lengths.dropped) == (3, 1, 1)
    assert max(len(e["input_ids"]) for e in examples) == 256 and len(examples) == 2
    says(lambda: tokenize(rows[2:], tokenizer, 256), "config.train.max_length", "256", "prompt")
