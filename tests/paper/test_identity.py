"""Case 9: a `paper:` key is a declaration; hub id and revision, or the hash of the rows, decide."""

import copy

import pytest
from verdicts import verdict

from pissa_repro.paper import identity

GSM8K = identity.known("tests")["gsm8k"]["sha256"][0]  # of the rows that the fetch stage writes


def changed(config, section, name, **fields):
    """The config with other keys in one definition; None takes a key away."""
    config = copy.deepcopy(config)
    entry = config[section][name] | fields
    config[section][name] = {key: value for key, value in entry.items() if value is not None}
    return config


def test_the_shipped_config_is_identified(config):
    found = verdict(config)
    assert found.verdict == "agrees" and "declared" not in found.note


@pytest.mark.parametrize(
    ("section", "name", "fields", "said"),
    [
        ("models", "llama-2-7b", {"hub": None, "revision": None, "gated": None, "path": "models/any"}, "models/any"),
        ("models", "llama-2-7b", {"hub": "someone/other"}, "llama-2-7b is someone/other"),
        ("models", "llama-2-7b", {"revision": "main"}, "llama-2-7b at revision main, which is not one known"),
        ("datasets", "metamath-100k", {"hub": None, "revision": None, "file": None, "path": "m.json"}, "m.json"),
        ("datasets", "gsm8k-test", {"hub": None, "revision": None, "file": None, "path": "train.jsonl"}, "train.jsonl"),
    ],
)
def test_what_is_not_known_is_as_declared(config, section, name, fields, said):
    found = verdict(changed(config, section, name, **fields))
    assert found.verdict == "agrees, as declared in the config"
    assert said in found.note


@pytest.mark.parametrize(
    ("name", "fields", "said"),
    [
        ("gsm8k-test", {"file": "main/train-00000-of-00001.parquet"}, "file of gsm8k is main/train"),
        ("gsm8k-test", {"fields": {"prompt": "answer", "response": "answer"}}, "fields of gsm8k is"),
        ("metamath-100k", {"fields": {"prompt": "type", "response": "response"}}, "fields of metamath-100k is"),
        ("metamath-100k", {"response_format": "gsm8k"}, "response_format of metamath-100k is gsm8k"),
    ],
)
def test_another_part_of_a_known_repository_is_something_else(config, name, fields, said):
    found = verdict(changed(config, "datasets", name, **fields))
    assert found.verdict == "not comparable" and said in found.note


def test_the_hash_of_the_rows_decides_for_a_file(config):
    local = changed(config, "datasets", "gsm8k-test", hub=None, revision=None, file=None, path="test.jsonl")
    assert verdict(local, hashes={"gsm8k-test": GSM8K}).verdict == "agrees"
    found = verdict(local, hashes={"gsm8k-test": "0" * 64})
    assert found.verdict == "not comparable" and "the rows of gsm8k are others" in found.note
